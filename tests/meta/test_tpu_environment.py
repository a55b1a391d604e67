"""An environment for TPUs, made by the very commands of docs/distributed.md, without a TPU."""

import json
import os
from pathlib import Path
import platform
import re
import shlex
import subprocess
import sys

import pytest

from dr_keras.meta.devices.strategies import TPU_INSTALL

ROOT = Path(__file__).resolve().parents[2]

# What a process of that environment does. Lowering is for the TPU: its build compiles for no CPU.
PROGRAM = """
import json
import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2
from dr_keras.config import configuration
from dr_keras.meta.devices import strategies
from dr_keras.errors import ConfigurationError
from dr_keras.precompile import programs, setup
import tiny_quickstart

found = {"tensorflow": tf.__version__}
found["devices"] = [device.device_type for device in tf.config.list_physical_devices()]
try:
    strategies.tpu_strategy()
except ConfigurationError as error:
    found["strategy"] = str(error)
configuration.parse("experiments/quickstart.gin", tiny_quickstart.ONE_UPDATE)
(program,) = programs.build(setup.from_gin(), ["meta_step"])
module = hlo_pb2.HloModuleProto.FromString(programs.lower(program).hlo)
found["bytes"] = module.ByteSize()
found["opcodes"] = sorted({i.opcode for c in module.computations for i in c.instructions})
print(json.dumps(found))
"""


def documented_commands():
    page = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- tpu-install -->\n```\n(.*?)```\n<!-- /tpu-install -->", page, re.S)
    return block.splitlines()


def run(command, timeout, **environment):
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Its interpreter."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("tensorflow-tpu has wheels for Linux on x86_64 only")
    asked = [sys.executable, "-m", "pip", "index", "versions", "tensorflow-tpu"]
    reached = run(asked, 120)
    if reached.returncode:
        why = (reached.stderr.strip() or "no reason given").splitlines()[-1]
        pytest.skip(f"pip reaches no package index that has tensorflow-tpu: {why}")
    folder = tmp_path_factory.mktemp("tpu")
    assert run([sys.executable, "-m", "venv", folder], 120).returncode == 0
    python = folder / "bin" / "python"
    for line in documented_commands():
        pip, *arguments = shlex.split(line)
        assert pip == "pip"
        done = run([python, "-m", "pip", *arguments], 1500)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return python


def test_the_page_and_the_error_give_the_same_commands():
    first, last = documented_commands()
    assert last == TPU_INSTALL[1]
    # The page's first line installs dr_keras with it, which asks for the tensorflow-text that fits.
    assert set(shlex.split(TPU_INSTALL[0])) - set(shlex.split(first)) == {"tensorflow-text==2.20.*"}


@pytest.mark.long
def test_the_documented_environment_imports_and_lowers_a_meta_step(environment):
    check = run([environment, "-m", "pip", "check"], 120)
    assert check.returncode == 0, check.stdout
    done = run(
        [environment, "-c", PROGRAM],
        900,
        PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'precompile'}",
        TPU_SKIP_MDS_QUERY="1",  # there is no server that tells a TPU's machine what it is
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["tensorflow"].startswith("2.20.")
    assert "TPU_SYSTEM" in found["devices"], "the CPU's TensorFlow is imported"
    if "TPU" not in found["devices"]:
        assert "this TensorFlow is built for TPUs, and finds none" in found["strategy"]
    assert {"dot", "parameter"} <= set(found["opcodes"])
    assert not {"custom-call", "infeed", "outfeed", "copy"} & set(found["opcodes"])
    assert found["bytes"] > 100_000
