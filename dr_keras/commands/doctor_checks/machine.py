"""Facts about the machine and what is installed, without importing TensorFlow."""

import base64
from collections.abc import Callable
import configparser
import contextlib
import glob
import hashlib
from importlib import metadata
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile

import dr_keras

# Wheels that write the folder tensorflow/.
TENSORFLOWS = (
    "tensorflow", "tensorflow-cpu", "tensorflow-tpu", "tensorflow-rocm", "tensorflow-macos",
    "tf-nightly",
)  # fmt: skip
PACKAGES = (
    *TENSORFLOWS, "tensorflow-text", "keras", "keras-hub", "keras-nlp", "gin-config", "numpy",
    "tensorflow-datasets", "pyarrow", "tensorboard", "libtpu", "apache-beam",
    "tensorflow-serving-api", "jax", "scikit-learn", "scipy", "jinja2", "matplotlib",
)  # fmt: skip
_SETTINGS = (
    "KERAS_BACKEND", "KERAS_HOME", "TF_USE_LEGACY_KERAS", "TF_XLA_FLAGS", "XLA_FLAGS",
    "TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS",
    "MKL_NUM_THREADS", "KMP_AFFINITY", "KMP_BLOCKTIME", "TF_FORCE_GPU_ALLOW_GROWTH",
    "TF_GPU_ALLOCATOR", "TF_DETERMINISTIC_OPS", "CUDA_VISIBLE_DEVICES", "TPU_NAME",
    "TPU_LIBRARY_PATH", "TPU_VISIBLE_CHIPS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS", "TMPDIR",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONUTF8", "PYTHONIOENCODING", "LC_ALL",
)  # fmt: skip
# Files by which the wheels differ, small enough to be read.
_TELLING = (
    "tensorflow/__init__.py",
    "tensorflow/python/platform/build_info.py",
    "tensorflow/python/_pywrap_tensorflow_internal.so",
)
_ROOT = pathlib.Path(dr_keras.__file__).resolve().parent.parent


def gather() -> dict:
    """The facts by name; where one could not be had, `{"error": why}`."""
    return {name: _guarded(function) for name, function in _FACTS.items()}


def _guarded(function: Callable):
    try:
        return function()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _python() -> dict:
    return {"version": platform.python_version(), "executable": sys.executable}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"dr_keras": dr_keras.__version__}
    for name in PACKAGES:
        found[name] = None
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _requirements() -> dict:
    """What dr_keras asks for: {"python": ..., "packages": {name: specifier}}, extras left out."""
    setup = configparser.ConfigParser()
    if setup.read(_ROOT / "setup.cfg", encoding="utf-8") and "options" in setup:  # a checkout
        python = setup["options"]["python_requires"]
        lines = setup["options"]["install_requires"].splitlines()
    else:
        about = metadata.metadata("dr_keras")
        python = about["Requires-Python"]
        lines = [line for line in metadata.requires("dr_keras") or [] if "extra ==" not in line]
    packages = {}
    for line in lines:
        found = re.match(r"\s*([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*\(?([^;)]*)", line)
        if found and not line.lstrip().startswith("#"):
            packages[found[1].lower().replace("_", "-")] = found[2].strip()
    return {"python": python, "packages": packages}


def _tensorflow_files() -> dict[str, list[int]]:
    """Of each installed wheel of TensorFlow: how many of its telling files are there, and of all.

    They are there if they have the checksum that the wheel recorded.
    """
    found = {}
    for name in TENSORFLOWS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            recorded = {str(file): file for file in metadata.distribution(name).files or ()}
            telling = [recorded[name] for name in _TELLING if name in recorded]
            found[name] = [sum(_is_as_recorded(file) for file in telling), len(telling)]
    return found


def _is_as_recorded(file: metadata.PackagePath) -> bool:
    path = pathlib.Path(file.locate())
    if file.hash is None or not path.exists():
        return False
    digest = hashlib.new(file.hash.mode, path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value


def _environment() -> dict[str, str]:
    """Settings of the shell that matter; listed by name, because others may hold secrets."""
    return {name: os.environ[name] for name in _SETTINGS if name in os.environ}


def _memory() -> dict[str, int]:
    """Bytes: of the machine, available now, and the limit of the container where there is one."""
    found = {}
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                key = "total" if name == "MemTotal" else "available"
                found[key] = int(value.split()[0]) * 1024
    if "total" not in found:
        found["total"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limit = int(pathlib.Path(path).read_text(encoding="ascii"))
            if limit < found["total"]:
                found["limit"] = limit
    return found


def _folders() -> dict[str, dict]:
    return {
        "temporary folder": _folder(_temporary_folder()),
        "working folder": _folder(os.getcwd()),
    }


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # none that can be written to
        return os.environ.get("TMPDIR", "/tmp")


def _folder(path: str) -> dict:
    found: dict = {"path": path}
    with contextlib.suppress(OSError):
        found["free"] = shutil.disk_usage(path).free
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        found["error"] = error.strerror or str(error)
    return found


def _cores() -> dict:
    """Cores of the machine, those this process may run on, and the container's share of them."""
    found: dict = {"machine": os.cpu_count() or 1}
    found["usable"] = found["machine"]
    if hasattr(os, "sched_getaffinity"):
        found["usable"] = len(os.sched_getaffinity(0))
    folder = pathlib.Path("/sys/fs/cgroup")  # of version 2, and of version 1
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        with contextlib.suppress(OSError, ValueError):
            texts = [(folder / file).read_text(encoding="ascii") for file in files]
            quota, period = map(int, " ".join(texts).split())
            if quota > 0:
                found["share"] = quota / period
    return found


def _nodes() -> list[str]:
    """Device files of accelerators."""
    patterns = ("/dev/accel*", "/dev/vfio/[0-9]*", "/dev/nvidia[0-9]*", "/dev/kfd")
    return sorted(path for pattern in patterns for path in glob.glob(pattern))


def _encoding() -> dict[str, str]:
    return {
        "files": sys.getfilesystemencoding(),
        "output": getattr(sys.stdout, "encoding", None) or "none",
    }


_FACTS: dict[str, Callable] = {
    fact.__name__[1:]: fact
    for fact in (
        _python, _versions, _requirements, _tensorflow_files, _environment, _memory, _folders,
        _cores, _nodes, _encoding,
    )
}  # fmt: skip
