"""Programs compiled for a TPU that is not there, with the compiler that comes with jax[tpu].

jax is imported in the functions that need it: everything else works without the extra `aot`.
"""

import dataclasses
import os
import re
import time
import types

from dr_keras.errors import ConfigurationError
from dr_keras.system.progress import hidden_errors

# Memory of a device in GiB, as the compiler names it where it refuses a program; a part of the
# nominal memory is its own. A device of v4 is one of a chip's two cores.
USABLE_GIB = {"v4": 15.25, "v5e": 15.75, "v5p": 95.74, "v6e": 31.25}
_INSTALL = "pip install 'dr_keras[aot]'"


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of a program, per chip.

    Attributes:
      fits: False if it was refused for its size.
      argument_bytes, output_bytes, temp_bytes, alias_bytes, program_bytes: of the accepted program,
        arguments and outputs in the chip's padded layouts; aliased outputs lie where their
        arguments lie. None for a refused one.
      needs_bytes, has_bytes: memory it would have needed, and what there is; None if accepted.
      flops: of the compiler's cost analysis, in which the body of a loop counts once.
      seconds: CPU time of compiling.
      reason: of a refusal.
    """

    fits: bool
    argument_bytes: int | None = None
    output_bytes: int | None = None
    temp_bytes: int | None = None
    alias_bytes: int | None = None
    program_bytes: int | None = None
    needs_bytes: int | None = None
    has_bytes: int | None = None
    flops: float | None = None
    seconds: float = 0.0
    reason: str | None = None

    @property
    def peak_bytes(self) -> int | None:
        """Arguments, outputs, temporaries and the program itself, or what it would need."""
        if not self.fits:
            return self.needs_bytes
        held = self.argument_bytes + self.output_bytes - self.alias_bytes
        return held + self.temp_bytes + self.program_bytes


class Topology:
    """Chips of a TPU that need not be there.

    Args:
      name: kind and shape, such as "v5e:2x2", "v5p:2x2x1" or "v6e:4x4".

    Attributes:
      chips: how many devices it has.
      kind: what the compiler calls one.

    Raises:
      ConfigurationError: jax[tpu] is not installed, or there is no such topology.
    """

    def __init__(self, name: str):
        if not re.fullmatch(r"[\w.-]+:\d+(x\d+){0,2}", name):
            raise ConfigurationError(
                f"--topology {name}: it must be KIND:SHAPE, such as v5e:2x2, v5p:2x2x1 or v6e:2x2."
            )
        self.name = name
        self._jax = _import_jax()
        try:
            with hidden_errors():  # libtpu writes there
                found = self._jax.topologies.get_topology_desc(topology_name=name, platform="tpu")
        except Exception as error:  # RuntimeError of jaxlib, whose types are not public
            reason = " ".join(str(error).split())[:300]
            raise ConfigurationError(
                f"--topology {name}: the TPU compiler knows no such topology ({reason}). Shapes are"
                " those that can be rented: v5e:2x2, v5e:4x4, v5p:2x2x1, v6e:2x2, for instance."
            ) from error
        self._device = found.devices[0]
        self.chips, self.kind = len(found.devices), str(self._device.device_kind)

    @property
    def usable_bytes(self) -> int | None:
        """Memory of a chip that programs may use, where it is known without compiling."""
        gib = USABLE_GIB.get(self.name.partition(":")[0])
        return None if gib is None else int(gib * 2**30)

    def compile(self, hlo: bytes) -> Compiled:
        """Compiles a serialised HloModuleProto for one chip.

        Raises:
          ConfigurationError: the compiler refuses the program for another reason than its size.
        """
        jax = self._jax
        module = jax.extend_mlir.hlo_to_stablehlo(hlo)
        with jax.make_ir_context():
            module = jax.ir.Module.parse(module)
        started = time.process_time()
        try:
            with hidden_errors():  # libtpu writes there
                executable = self._device.client.compile(
                    module,
                    executable_devices=jax.xla_client.DeviceList((self._device,)),
                    compile_options=jax.get_compile_options(1, 1),
                )
        except Exception as error:  # as above
            return refused(str(error), time.process_time() - started)
        stats = executable.get_compiled_memory_stats()
        costs = executable.cost_analysis() or {}
        return Compiled(
            True,
            argument_bytes=stats.argument_size_in_bytes,
            output_bytes=stats.output_size_in_bytes,
            temp_bytes=stats.temp_size_in_bytes,
            alias_bytes=stats.alias_size_in_bytes,
            program_bytes=stats.generated_code_size_in_bytes,
            flops=costs.get("flops"),
            seconds=round(time.process_time() - started, 1),
        )


_SIZE = r"([\d.]+)([KMGTB]?)\w*"
_USED_OF = rf"[Uu]sed {_SIZE} of {_SIZE} (?:hbm|HBM)"
# Of a program whose temporaries alone are too large.
_REQUIRED_OF = rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)"
_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def refused(message: str, seconds: float = 0.0) -> Compiled:
    """A Compiled of the compiler's words that a program is too large.

    Raises:
      ConfigurationError: they say something else.
    """
    found = re.search(_USED_OF, message) or re.search(_REQUIRED_OF, message)
    if found is None:
        words = " ".join(message.split())
        if "RESOURCE_EXHAUSTED" in words or "Ran out of memory" in words:
            return Compiled(False, seconds=round(seconds, 1), reason=words[:300])
        raise ConfigurationError(f"The TPU compiler refuses the program: {words[:600]}")
    needs, unit, has, has_unit = found.groups()
    needs, has = float(needs) * _UNITS[unit], float(has) * _UNITS[has_unit]
    return Compiled(
        False,
        needs_bytes=int(needs),
        has_bytes=int(has),
        seconds=round(seconds, 1),
        reason=f"needs {needs / 2**30:.2f} GiB of {has / 2**30:.2f} GiB",
    )


def _import_jax():
    """The parts of jax that compile for a topology, under one name."""
    # libtpu asks the cloud's metadata server what machine this is, and waits for an answer.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        from jax._src.compiler import get_compile_options
        from jax._src.interpreters.mlir import make_ir_context
        from jax._src.lib import xla_client
        from jax._src.lib.mlir import ir
        from jax.experimental import topologies
        from jax.extend import mlir as extend_mlir
        import libtpu  # noqa: F401 - only to know that it is there
    except ImportError as error:
        raise ConfigurationError(
            f"To compile for a TPU, jax[tpu] must be installed ({error}): {_INSTALL}. Without it,"
            " leave out --topology: shapes, parameters and bytes are counted all the same."
        ) from error

    return types.SimpleNamespace(
        topologies=topologies,
        extend_mlir=extend_mlir,
        ir=ir,
        xla_client=xla_client,
        make_ir_context=make_ir_context,
        get_compile_options=get_compile_options,
    )
