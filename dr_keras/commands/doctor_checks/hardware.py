"""Facts about the machine, and about what was tried on it, judged."""

from collections.abc import Callable, Iterator

from dr_keras.commands.doctor_checks.finding import (
    LIBTPU,
    OK,
    PIP,
    PROBLEM,
    WARNING,
    Finding,
    gb,
    imports_nothing,
    tensorflow_version,
    value_of,
)  # fmt: skip

_GB = 1e9


def devices(facts: dict) -> Iterator[Finding]:
    seen = value_of(facts, "devices", None)
    if seen is None:
        return
    counts = {kind: seen.count(kind) for kind in dict.fromkeys(seen)}
    text = ", ".join(f"{count} {kind}" for kind, count in counts.items() if "XLA" not in kind)
    nvidia = [node for node in facts["nodes"] if node.startswith("/dev/nvidia")]
    hidden = facts["environment"].get("CUDA_VISIBLE_DEVICES")
    if nvidia and "GPU" not in counts and hidden in ("", "-1"):
        yield Finding(
            WARNING, "devices", f"{text}; CUDA_VISIBLE_DEVICES hides {len(nvidia)} GPU",
            "unset CUDA_VISIBLE_DEVICES",
        )  # fmt: skip
    elif nvidia and "GPU" not in counts:
        of = tensorflow_version(facts)
        yield Finding(
            WARNING, "devices", f"{text}; TensorFlow does not see {', '.join(nvidia)}",
            f"{PIP} 'tensorflow[and-cuda]=={of}', and a driver that it accepts (nvidia-smi)",
        )  # fmt: skip
    else:
        yield Finding(OK, "devices", text)


def tpu(facts: dict) -> Iterator[Finding]:
    version, step = facts["versions"].get("libtpu"), facts["probe"]["steps"].get("libtpu", {})
    wheel = facts["versions"].get("tensorflow-tpu")
    nodes = [node for node in facts["nodes"] if node.startswith(("/dev/accel", "/dev/vfio"))]
    here = f"{len(nodes)} device file{'s' * (len(nodes) != 1)}" if nodes else "no TPU here"
    if nodes and not wheel:
        yield Finding(
            WARNING, "TPU", f"{here} ({nodes[0]}, ...), but no tensorflow-tpu",
            "see docs/distributed.md: install tensorflow-tpu last, with its libtpu",
        )  # fmt: skip
    elif wheel and not version:
        yield Finding(
            PROBLEM, "TPU", f"tensorflow-tpu {wheel} without libtpu",
            f"{PIP} --no-deps '{LIBTPU}'",
        )  # fmt: skip
    elif version and "error" in step:
        yield Finding(
            PROBLEM if wheel else WARNING, "TPU",
            f"libtpu {version} cannot be loaded: {step['error']}", f"{PIP} --no-deps '{LIBTPU}'",
        )  # fmt: skip
    elif version:
        yield Finding(OK, "TPU", f"libtpu {version} loads; {here}")
    else:
        yield Finding(OK, "TPU", f"{here}, and no libtpu")


def xla(facts: dict) -> Iterator[Finding]:
    step = facts["probe"]["steps"].get("xla")
    if step is None or imports_nothing(facts):
        return
    flags = facts["environment"].get("XLA_FLAGS") or facts["environment"].get("TF_XLA_FLAGS")
    fix = "unset XLA_FLAGS and TF_XLA_FLAGS" if flags else "reinstall TensorFlow"
    if "error" in step:
        yield Finding(PROBLEM, "XLA", f"does not compile: {step['error']}", fix)
    elif step["value"] != 7.0:
        yield Finding(PROBLEM, "XLA", f"computes 2 * 3 + 1 = {step['value']}", fix)
    else:
        yield Finding(OK, "XLA", f"compiles and computes ({step['seconds']:.1f} s)")


def memory(facts: dict) -> Iterator[Finding]:
    found = facts["memory"]
    bound = min(found["total"], found.get("limit", found["total"]))
    text = f"{gb(found['total'])}"
    if "available" in found:
        text += f", {gb(found['available'])} of them free"
    if "limit" in found:
        text += f"; this container may use {gb(found['limit'])}"
    if bound < 2 * _GB:
        yield Finding(
            PROBLEM, "memory", text,
            "TensorFlow alone takes 1 GB: use a machine or a container with 4 GB or more",
        )  # fmt: skip
    elif bound < 4 * _GB or found.get("available", bound) < 2 * _GB:
        yield Finding(
            WARNING, "memory", text,
            "the quick start wants 4 GB: close other programs, or use one worker and small batches",
        )  # fmt: skip
    else:
        yield Finding(OK, "memory", text)


def folders(facts: dict) -> Iterator[Finding]:
    for role, folder in facts["folders"].items():
        free = folder.get("free")
        text = f"{folder['path']}{f', {gb(free)} free' if free is not None else ''}"
        temporary = role.startswith("temporary")
        other = "export TMPDIR=/a/folder/of/yours" if temporary else "work in another folder"
        if "error" in folder:
            level = PROBLEM if temporary else WARNING
            fix = other if temporary else f"{other}, or name outputs by whole paths"
            yield Finding(level, role, f"{text}: {folder['error']}", fix)
        elif free is not None and free < _GB:
            yield Finding(WARNING, role, text, f"make room, or {other}")
        else:
            yield Finding(OK, role, text)


def threads(facts: dict) -> Iterator[Finding]:
    cores, environment = facts["cores"], facts["environment"]
    text = f"{cores['usable']} of {cores['machine']} cores"
    share = cores.get("share")
    few = cores["usable"] if share is None else min(cores["usable"], max(1, round(share)))
    if share is not None and share < cores["usable"]:
        text += f", of which the container may use {share:g}"
    found = value_of(facts, "threads", {"intra": 0, "inter": 0})
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    given = {name: environment[name] for name in names if environment.get(name)}
    intra = given.get("TF_NUM_INTRAOP_THREADS", found["intra"] or "one a core")
    text += f"; threads of an operation: {intra}"
    wrong = []
    for name, value in given.items():
        if not value.isdecimal():
            said = f"{name} is {value!r}, no number"
            wrong.append(Finding(WARNING, "threads", said, f"unset {name}"))
        elif int(value) > few:
            said = f"{name} is {value}, and there are {few} cores"
            wrong.append(Finding(WARNING, "threads", said, f"export {name}={few}"))
    yield from wrong
    if few < cores["usable"] and "TF_NUM_INTRAOP_THREADS" not in given:
        yield Finding(
            WARNING, "threads", f"{text}: more threads than cores slow it down",
            f"export TF_NUM_INTRAOP_THREADS={few} TF_NUM_INTEROP_THREADS={few}",
        )  # fmt: skip
    elif not wrong:
        yield Finding(OK, "threads", text)


def settings(facts: dict) -> Iterator[Finding]:
    environment = facts["environment"]
    if environment.get("TF_USE_LEGACY_KERAS", "0").lower() not in ("", "0", "false"):
        yield Finding(
            PROBLEM, "TF_USE_LEGACY_KERAS", "is set, and dr_keras needs Keras 3",
            "unset TF_USE_LEGACY_KERAS",
        )  # fmt: skip
    if facts["encoding"]["files"].lower().replace("-", "") != "utf8":
        yield Finding(
            WARNING, "file names",
            f"Python reads them as {facts['encoding']['files']}, and TensorFlow as UTF-8",
            "export LC_ALL=C.UTF-8",
        )  # fmt: skip
    shown = [
        f"{name}={value[:60]}"
        for name, value in environment.items()
        if (name, value) != ("KERAS_BACKEND", "tensorflow")  # every command sees to that
    ]
    yield Finding(OK, "settings", ", ".join(shown) or "nothing that TensorFlow reads is set")


def configuration(facts: dict) -> Iterator[Finding]:
    yield from _step(
        facts, "gin", "gin files", lambda count: (count > 0, f"{count} come with dr_keras")
    )


def shipped_rater(facts: dict) -> Iterator[Finding]:
    def judge(scores):
        clean, damaged = scores
        text = f"scores prose {clean:.2f} and damaged prose {damaged:.2f}"
        return clean > damaged, text

    yield from _step(facts, "rater", "shipped rater", judge)


def _step(facts: dict, name: str, about: str, judge: Callable) -> Iterator[Finding]:
    step = facts["probe"]["steps"].get(name)
    if step is None or imports_nothing(facts):
        return
    fix = "put right what stands above; else install dr_keras anew"
    if "error" in step:
        yield Finding(PROBLEM, about, step["error"], fix)
    else:
        fine, text = judge(step["value"])
        yield Finding(OK, about, text) if fine else Finding(PROBLEM, about, text, fix)
