"""The strategies that a gin file may name; one line picks one.

    STRATEGY = @one_device()               # the default
    STRATEGY = @mirrored_strategy()        # the devices of this machine
    STRATEGY = @multi_worker_strategy()    # several machines, one process on each
    STRATEGY = @tpu_strategy()

See docs/distributed.md.
"""

from collections.abc import Sequence

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.devices.replicas import Replicas, WorkerReplicas
import gin

# Bindings that say where a run computes, and not what: a resumed run may have others.
BINDINGS = (
    "STRATEGY",
    "meta_train.strategy",
    "LanguageModelTrainer.strategy",
    "ExampleTrainer.strategy",
    "mirrored_strategy.devices",
    "mirrored_strategy.logical_cpus",
    "multi_worker_strategy.workers",
    "multi_worker_strategy.index",
    "tpu_strategy.tpu",
    "tpu_strategy.zone",
    "tpu_strategy.project",
    "tpu_strategy.computation_shape",
    "tpu_strategy.num_replicas",
)

# What makes an environment with dr_keras one for TPUs. tensorflow-tpu writes the folder that
# tensorflow writes, so it must come last; with the newest libtpu its import ends the process.
TPU_INSTALL = (
    "pip install 'tensorflow==2.20.*' 'tensorflow-text==2.20.*'",
    "pip install --no-deps --force-reinstall 'tensorflow-tpu==2.20.*' 'libtpu==0.0.17'",
)

# A process can join a cluster once, and a TPU is initialised once. Two MirroredStrategies on the
# same devices number their reductions alike, and TensorFlow takes those of one for the other's.
_joined: dict[tuple, WorkerReplicas] = {}
_mirrored: dict[tuple | None, Replicas] = {}
_tpus: dict[str, Replicas] = {}


def placement_of(strategy: OneDevice | tf.distribute.Strategy | None) -> OneDevice:
    """The placement that `strategy` means; None is one device.

    Raises:
      ConfigurationError: neither a placement nor a strategy that has one.
    """
    if strategy is None:
        return OneDevice()
    if isinstance(strategy, OneDevice):
        return strategy
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return WorkerReplicas(strategy)
    if isinstance(strategy, (tf.distribute.MirroredStrategy, tf.distribute.TPUStrategy)):
        return Replicas(strategy)
    raise ConfigurationError(
        f"strategy is {strategy!r}: use @one_device(), @mirrored_strategy(),"
        " @multi_worker_strategy() or @tpu_strategy(), or such a strategy of tf.distribute."
    )


@gin.configurable
def one_device() -> OneDevice:
    """Everything on TensorFlow's default device."""
    return OneDevice()


@gin.configurable
def mirrored_strategy(
    devices: Sequence[str] | None = None, logical_cpus: int | None = None
) -> Replicas:
    """A replica for each device of this machine; the same object whenever a process asks again.

    Args:
      devices: such as ["GPU:0", "GPU:1"]; None takes all GPUs, or the CPU where there is none.
      logical_cpus: splits the CPU into so many devices and uses these: to try a configuration on
        a machine without accelerators. It computes no faster than one.

    Raises:
      ConfigurationError: unknown devices, or both arguments, or TensorFlow has started already.
    """
    if logical_cpus is not None:
        if devices is not None:
            raise ConfigurationError(
                "mirrored_strategy has both devices and logical_cpus: give one of them."
            )
        _split_cpu(logical_cpus)
        devices = [f"CPU:{number}" for number in range(logical_cpus)]
    if devices is not None:
        known = [device.name for device in tf.config.list_logical_devices()]
        unknown = [d for d in devices if not any(name.endswith(f":{d}") for name in known)]
        if unknown or not devices:
            raise ConfigurationError(
                f"mirrored_strategy.devices: {unknown or 'none given'}; this machine has"
                f" {', '.join(name.rpartition('device:')[2] for name in known)}."
            )
    key = None if devices is None else tuple(devices)
    if key not in _mirrored:
        _mirrored[key] = Replicas(tf.distribute.MirroredStrategy(devices))
    return _mirrored[key]


def _split_cpu(count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigurationError(
            f"mirrored_strategy.logical_cpus is {count}: it must be a whole number of at least 1."
        )
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) == count:
            return  # an earlier call has split it so
        raise ConfigurationError(
            f"mirrored_strategy.logical_cpus is {count}, but TensorFlow has started and the CPU"
            " cannot be split any more: build the strategy first in a fresh process."
        ) from error


@gin.configurable
def multi_worker_strategy(
    workers: Sequence[str] | None = None, index: int | None = None
) -> WorkerReplicas:
    """A replica for each device of every worker; each worker runs the same command.

    It must be built before TensorFlow does anything else, and waits until all workers are there.

    Args:
      workers: addresses "host:port", the same list on every worker; the first is the chief. None
        reads TensorFlow's variable TF_CONFIG, as clusters set it.
      index: place of this worker in the list.

    Raises:
      ConfigurationError: an index out of range, no TF_CONFIG, or TensorFlow has started already.
    """
    if workers is None:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        if not resolver.cluster_spec().jobs:
            raise ConfigurationError(
                "multi_worker_strategy has no workers and TF_CONFIG is not set: give"
                ' multi_worker_strategy.workers = ["host:port", ...] and .index, or set TF_CONFIG.'
            )
    else:
        whole = isinstance(index, int) and not isinstance(index, bool)
        if not whole or not 0 <= index < len(workers):
            raise ConfigurationError(
                f"multi_worker_strategy.index is {index}: each worker needs its own place in the"
                f" list of {len(workers)} workers, from 0."
            )
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(workers)}),
            task_type="worker",
            task_id=index,
            rpc_layer="grpc",
        )
    key = (str(resolver.cluster_spec().as_dict()), resolver.task_type, resolver.task_id)
    if key not in _joined:
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        except RuntimeError as error:
            raise ConfigurationError(
                "multi_worker_strategy comes too late: it must be built before TensorFlow does"
                f" anything else in the process ({str(error).splitlines()[0]})."
            ) from error
        except tf.errors.OpError as error:
            raise ConfigurationError(
                f"The workers {resolver.cluster_spec().as_dict()} could not be joined: start the"
                " same command on each of them, and see that the ports are free and reachable"
                f" ({error.message[:200]})."
            ) from error
        _joined[key] = WorkerReplicas(strategy)
    return _joined[key]


@gin.configurable
def tpu_strategy(
    tpu: str = "local",
    zone: str | None = None,
    project: str | None = None,
    computation_shape: Sequence[int] | None = None,
    num_replicas: int | None = None,
) -> Replicas:
    """A replica for each core (or group of cores) of a TPU. Never tried on a TPU.

    Args:
      tpu: name or address for the resolver; "local" for the machine's own chips.
      zone, project: of a named TPU.
      computation_shape: cores of one replica along each axis of the topology, as
        `tf.tpu.experimental.DeviceAssignment.build` takes it; None gives every core a replica.
      num_replicas: with `computation_shape`, how many.

    Raises:
      ConfigurationError: no TPU can be reached.
    """
    key = str((tpu, zone, project, computation_shape, num_replicas))
    if key in _tpus:
        return _tpus[key]
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=tpu, zone=zone, project=project
        )
        if tpu not in ("", "local"):
            tf.config.experimental_connect_to_cluster(resolver)
        topology = tf.tpu.experimental.initialize_tpu_system(resolver)
        assignment = None
        if computation_shape is not None:
            assignment = tf.tpu.experimental.DeviceAssignment.build(
                topology, list(computation_shape), num_replicas=num_replicas or 1
            )
        strategy = tf.distribute.TPUStrategy(resolver, experimental_device_assignment=assignment)
    except Exception as error:  # resolver, network and runtime each have their own
        raise ConfigurationError(
            f"No TPU '{tpu}' can be used ({_reason(error)}): {_tpu_advice()}"
        ) from error
    _tpus[key] = Replicas(strategy)
    return _tpus[key]


def _reason(error: Exception) -> str:
    """The line of an error that says what happened, without where in a graph it did."""
    place = ("Graph execution error", "Detected at node", "<stack traces")
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(place)]
    return (told or [type(error).__name__])[0][:200]


def _tpu_advice() -> str:
    if tf.config.list_physical_devices("TPU_SYSTEM"):
        return (
            "this TensorFlow is built for TPUs, and finds none. Run on a machine that has one"
            " which no other process holds, or give tpu_strategy.tpu its name or address."
        )
    first, last = TPU_INSTALL
    return (
        f"tpu_strategy needs a TPU, and this TensorFlow ({tf.__version__}) is not built for it."
        f" On the TPU's machine, in this order: {first}; {last}. See docs/distributed.md."
    )
