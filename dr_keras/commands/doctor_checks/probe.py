"""What takes TensorFlow to know, asked in a process of its own.

Run as a module, it prints a line of JSON before and after each step, so that it is known where a
process ended that a library took down with it. `ask` runs it.
"""

from collections.abc import Callable, Iterator
import contextlib
import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

_SECONDS = 300
_PROSE = (
    "The old bridge was closed for repairs in spring, so everyone walked along the river instead.",
    "Teh odl brigde brigde was clsoed fro rpeairs 0x3f ,, in spirng so evreyone evreyone @@ #",
)


def ask(*, seconds: float = _SECONDS) -> dict:
    """Runs the steps in a new process.

    Returns:
      `steps`: name -> {"value": ..., "seconds": ...} or {"error": ...}; `ended`: None where all was
      asked, else why the process ended early, `during` which step; `log`: the last of its output.
    """
    path = os.pathsep.join([str(pathlib.Path(__file__).resolve().parents[3]), *sys.path])
    try:
        done = subprocess.run(
            [sys.executable, "-m", __spec__.name],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
        )
        output, log, status = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as error:
        output, log, status = error.stdout or b"", error.stderr or b"", None
    return {**read(output), "log": log.decode(errors="replace")[-2000:]} | (
        {} if status == 0 else {"ended": _why(status)}
    )


def read(output: bytes) -> dict:
    """The lines of the process as the dict of `ask`, without `log`."""
    found: dict = {"steps": {}, "ended": None, "during": None}
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if "begin" in said:
                found["during"] = said["begin"]
            else:
                found["steps"][said.pop("name")] = said
                found["during"] = None
    return found


def _why(status: int | None) -> str:
    if status is None:
        return "it did not answer in time"
    if status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
    return f"status {status}"


def _tensorflow() -> dict:
    import tensorflow as tf

    about = tf.sysconfig.get_build_info()
    kinds = [name for name in ("cuda", "rocm") if about.get(f"is_{name}_build")]
    return {"version": tf.__version__, "file": tf.__file__, "build": kinds}


def _keras() -> dict:
    import keras

    return {"version": keras.__version__, "backend": keras.backend.backend()}


def _text() -> str:
    import tensorflow_text

    return tensorflow_text.__version__


def _devices() -> list[str]:
    import tensorflow as tf

    return [device.device_type for device in tf.config.list_physical_devices()]


def _threads() -> dict[str, int]:
    """0 leaves the number to TensorFlow."""
    import tensorflow as tf

    return {
        "intra": tf.config.threading.get_intra_op_parallelism_threads(),
        "inter": tf.config.threading.get_inter_op_parallelism_threads(),
    }


def _xla() -> float:
    import tensorflow as tf

    double = tf.function(lambda x: 2.0 * x + 1.0, jit_compile=True)
    return float(double(tf.constant(3.0)))


def _gin() -> int:
    from dr_keras.config import configuration, gin_files

    configuration.parse(["experiments/quickstart.gin"], [])
    return len(gin_files.packaged_gin_files())


def _rater() -> list[float]:
    from dr_keras.config.gin_files import packaged_folder
    from dr_keras.serving.loading import load_rater

    rater = load_rater(os.path.join(packaged_folder("savedmodels"), "damaged_prose"))
    return [float(score) for score in rater.score_texts(list(_PROSE))["score"]]


def _libtpu() -> dict | None:
    """Whether the library of the TPU can be loaded; None where there is none."""
    path = os.environ.get("TPU_LIBRARY_PATH")
    if not path:
        import importlib.util

        found = importlib.util.find_spec("libtpu")
        if found is None or not found.submodule_search_locations:
            return None
        path = os.path.join(found.submodule_search_locations[0], "libtpu.so")
    ctypes.CDLL(path)
    return {"path": path}


STEPS: dict[str, Callable] = {
    step.__name__[1:]: step
    for step in (_tensorflow, _keras, _text, _devices, _threads, _xla, _gin, _rater, _libtpu)
}


def _answers() -> Iterator[dict]:
    for name, step in STEPS.items():
        yield {"begin": name}
        begin = time.monotonic()
        try:
            yield {"name": name, "value": step(), "seconds": time.monotonic() - begin}
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            yield {"name": name, "error": reason[:500]}


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    for answer in _answers():
        os.write(answers, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
