"""Facts judged: each check is a function from what `machine` and `probe` found to findings."""

import dataclasses
from collections.abc import Callable, Iterator

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_GB = 1e9
_PIP = "pip install"
# tensorflow-tpu 2.20 imports with this libtpu; with newer ones the process ends.
_LIBTPU = "libtpu==0.0.17"
_REPORT = "report it as a defect of dr_keras"
_OPTIONAL = {"apache-beam": "beam", "tensorflow-serving-api": "serving", "jax": "aot"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
      level: OK, WARNING (works, but something is lost) or PROBLEM (something will not work).
      about: what was looked at, a few words.
      text: what was found.
      fix: what to do; empty where nothing is to be done.
    """

    level: str
    about: str
    text: str
    fix: str = ""


def findings(facts: dict) -> list[Finding]:
    """All of them, in the order of the report. A check that fails is a finding itself."""
    found = [
        Finding(WARNING, name.replace("_", " "), f"could not be looked at: {fact['error']}", _REPORT)
        for name, fact in facts.items()
        if isinstance(fact, dict) and "error" in fact
    ]
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            found += check(facts)
        except Exception as error:
            reason = f"this could not be checked ({type(error).__name__}: {error})"
            found.append(Finding(WARNING, name, reason, _REPORT))
    return found


def python(facts: dict) -> Iterator[Finding]:
    version, wanted = facts["python"]["version"], facts["requirements"]["python"]
    text = f"{version} ({facts['python']['executable']})"
    if _fits(version, wanted):
        yield Finding(OK, "Python", text)
    else:
        yield Finding(
            PROBLEM, "Python", f"{text}, and dr_keras needs {wanted}",
            "make a new environment: python3.12 -m venv .venv",
        )  # fmt: skip


def packages(facts: dict) -> Iterator[Finding]:
    versions, fine, absent = facts["versions"], [], []
    yield Finding(OK, "dr_keras", versions["dr_keras"])
    for name, wanted in facts["requirements"]["packages"].items():
        version = versions.get(name, "")
        if name in ("tensorflow", "tensorflow-text") or version == "":
            continue  # judged below; or known to nobody here
        if version is None:
            absent.append(name)
        elif not _fits(version, wanted):
            text = f"{name} {version}, and dr_keras needs {wanted}"
            yield Finding(PROBLEM, "packages", text, f"{_PIP} '{name}{wanted}'")
        else:
            fine.append(f"{name} {version}")
    if absent:
        wanted = facts["requirements"]["packages"]
        fix = " ".join([_PIP, *(f"'{name}{wanted[name]}'" for name in absent)])
        yield Finding(PROBLEM, "packages", f"not installed: {', '.join(absent)}", fix)
    if versions.get("keras-hub"):
        fine.append(f"keras-hub {versions['keras-hub']}")
    if fine:
        yield Finding(OK, "packages", ", ".join(sorted(fine)))
    for name, extra in _OPTIONAL.items():
        has = versions.get(name)
        text = f"{name} {has}" if has else f"{name} is not installed: {_PIP} 'dr_keras[{extra}]'"
        yield Finding(OK, f"optional: {extra}", text)


def tensorflow(facts: dict) -> Iterator[Finding]:
    versions, files = facts["versions"], facts["tensorflow_files"]
    wanted = facts["requirements"]["packages"].get("tensorflow", "")
    whole = [name for name, (there, of) in files.items() if of and there == of]
    if not files:
        if "error" in facts["probe"]["steps"].get("tensorflow", {"error": ""}):
            yield Finding(
                PROBLEM, "TensorFlow", "is not installed", f"{_PIP} 'tensorflow{wanted}'"
            )
        return
    named = " and ".join(f"{name} {versions[name]}" for name in files)
    if len(files) == 1:
        (name,) = files
        if not whole and files[name][1]:
            yield Finding(
                PROBLEM, "TensorFlow", f"the files of {named} are not those that were installed",
                f"{_PIP} --no-deps --force-reinstall '{name}=={versions[name]}'",
            )  # fmt: skip
    elif not whole:
        yield Finding(
            PROBLEM, "TensorFlow",
            f"{named} write the same folder, and what lies there is a mixture of them",
            _choose(facts),
        )  # fmt: skip
    elif whole != ["tensorflow-tpu"] and "tensorflow-tpu" in files:
        # the documented way to a TPU installs both, tensorflow-tpu last
        yield Finding(
            PROBLEM if _has_tpu(facts) else WARNING, "TensorFlow",
            f"{named} write the same folder, and the files there are those of {whole[0]}",
            _choose(facts),
        )  # fmt: skip
    name = (whole or list(files))[0]
    if _fits(versions[name], wanted):
        text = f"{versions[name]}, from the wheel {name}"
        kinds = _value(facts, "tensorflow", {}).get("build", [])
        yield Finding(OK, "TensorFlow", f"{text}{f', built for {kinds[0]}' if kinds else ''}")
    else:
        yield Finding(
            PROBLEM, "TensorFlow", f"{name} {versions[name]}, and dr_keras needs {wanted}",
            f"{_PIP} '{name}{wanted}'",
        )  # fmt: skip


def _choose(facts: dict) -> str:
    versions = facts["versions"]
    if "tensorflow-tpu" in facts["tensorflow_files"]:
        tpu = f"{_PIP} --no-deps --force-reinstall 'tensorflow-tpu=={versions['tensorflow-tpu']}'"
        others = [name for name in facts["tensorflow_files"] if name != "tensorflow-tpu"]
        if _has_tpu(facts) or not others:
            return tpu
        plain = f"{others[0]}=={versions[others[0]]}"
        return (
            f"for a TPU: {tpu}; without one: pip uninstall tensorflow-tpu, then {_PIP} --no-deps"
            f" --force-reinstall '{plain}'"
        )
    keep = next(iter(facts["tensorflow_files"]))
    names = " ".join(facts["tensorflow_files"])
    return f"pip uninstall {names}, then {_PIP} '{keep}=={versions[keep]}'"


def imported(facts: dict) -> Iterator[Finding]:
    probe = facts["probe"]
    during, ended = probe.get("during"), probe.get("ended")
    if ended:
        fix = "run it by hand to see what it says: python -c 'import tensorflow'"
        if during == "tensorflow" and ended == "SIGILL":
            fix = "this processor lacks instructions that the wheel needs (AVX): another machine"
        elif during in ("tensorflow", "libtpu") and facts["versions"].get("libtpu"):
            fix = f"{_PIP} --no-deps '{_LIBTPU}'"
        elif ended == "SIGKILL":
            fix = "memory ran out: close other programs, or raise the limit of the container"
        yield Finding(
            PROBLEM, f"trying {during}" if during else "trying it",
            f"ended the process ({ended}){_last(probe)}", fix,
        )  # fmt: skip
    error = probe["steps"].get("tensorflow", {}).get("error")
    if error and facts["tensorflow_files"]:
        name = next(iter(facts["tensorflow_files"]))
        yield Finding(
            PROBLEM, "TensorFlow", f"cannot be imported: {error}",
            f"{_PIP} --no-deps --force-reinstall '{name}=={facts['versions'][name]}'",
        )  # fmt: skip


def _last(probe: dict) -> str:
    lines = [line.strip() for line in probe.get("log", "").splitlines() if line.strip()]
    return f": {lines[-1][:200]}" if lines else ""


def tensorflow_text(facts: dict) -> Iterator[Finding]:
    version = facts["versions"].get("tensorflow-text")
    of = _tensorflow_version(facts)
    fix = f"{_PIP} 'tensorflow-text{facts['requirements']['packages'].get('tensorflow-text', '')}'"
    if of:
        fix = f"{_PIP} --no-deps 'tensorflow-text=={_minor(of)}.*'"
    step = facts["probe"]["steps"].get("text", {})
    if version is None:
        yield Finding(PROBLEM, "tensorflow-text", "is not installed", fix)
    elif of and _minor(version) != _minor(of):
        yield Finding(
            PROBLEM, "tensorflow-text",
            f"{version} beside TensorFlow {of}: both must have the same minor version", fix,
        )  # fmt: skip
    elif "error" in step and not _imports_nothing(facts):
        yield Finding(PROBLEM, "tensorflow-text", f"{version} fails: {step['error']}", fix)
    else:
        yield Finding(OK, "tensorflow-text", version)


def keras_backend(facts: dict) -> Iterator[Finding]:
    asked = facts["environment"].get("KERAS_BACKEND", "tensorflow")
    step = facts["probe"]["steps"].get("keras", {})
    if asked != "tensorflow":
        yield Finding(
            PROBLEM, "Keras backend",
            f"KERAS_BACKEND is {asked!r}, and dr_keras runs on TensorFlow", "unset KERAS_BACKEND",
        )  # fmt: skip
    elif "error" in step and not _imports_nothing(facts):
        fix = f"{_PIP} --force-reinstall 'keras{facts['requirements']['packages']['keras']}'"
        yield Finding(PROBLEM, "Keras", f"fails: {step['error']}", fix)
    elif "value" in step:
        yield Finding(OK, "Keras backend", step["value"]["backend"])


def devices(facts: dict) -> Iterator[Finding]:
    seen = _value(facts, "devices", None)
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
        of = _tensorflow_version(facts)
        yield Finding(
            WARNING, "devices", f"{text}; TensorFlow does not see {', '.join(nvidia)}",
            f"{_PIP} 'tensorflow[and-cuda]=={of}', and a driver that it accepts (nvidia-smi)",
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
            f"{_PIP} --no-deps '{_LIBTPU}'",
        )  # fmt: skip
    elif version and "error" in step:
        yield Finding(
            PROBLEM if wheel else WARNING, "TPU",
            f"libtpu {version} cannot be loaded: {step['error']}", f"{_PIP} --no-deps '{_LIBTPU}'",
        )  # fmt: skip
    elif version:
        yield Finding(OK, "TPU", f"libtpu {version} loads; {here}")
    else:
        yield Finding(OK, "TPU", f"{here}, and no libtpu")


def xla(facts: dict) -> Iterator[Finding]:
    step = facts["probe"]["steps"].get("xla")
    if step is None or _imports_nothing(facts):
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
    text = f"{_gb(found['total'])}"
    if "available" in found:
        text += f", {_gb(found['available'])} of them free"
    if "limit" in found:
        text += f"; this container may use {_gb(found['limit'])}"
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
        text = f"{folder['path']}{f', {_gb(free)} free' if free is not None else ''}"
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
    found = _value(facts, "threads", {"intra": 0, "inter": 0})
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
    if step is None or _imports_nothing(facts):
        return
    fix = "put right what stands above; else install dr_keras anew"
    if "error" in step:
        yield Finding(PROBLEM, about, step["error"], fix)
    else:
        fine, text = judge(step["value"])
        yield Finding(OK, about, text) if fine else Finding(PROBLEM, about, text, fix)


CHECKS: list[Callable[[dict], Iterator[Finding]]] = [
    python, packages, tensorflow, imported, tensorflow_text, keras_backend, devices, tpu, xla,
    configuration, shipped_rater, memory, folders, threads, settings,
]  # fmt: skip


def _imports_nothing(facts: dict) -> bool:
    """Whether TensorFlow cannot be imported: what fails after that says nothing new."""
    return "error" in facts["probe"]["steps"].get("tensorflow", {})


def _value(facts: dict, step: str, default):
    return facts["probe"]["steps"].get(step, {}).get("value", default)


def _has_tpu(facts: dict) -> bool:
    return any(node.startswith(("/dev/accel", "/dev/vfio")) for node in facts["nodes"])


def _tensorflow_version(facts: dict) -> str | None:
    """The one that is imported, else the one whose wheel is there."""
    named = [facts["versions"].get(name) for name in facts["tensorflow_files"]]
    return _value(facts, "tensorflow", {}).get("version") or next(iter(named), None)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _fits(version: str, wanted: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet  # TensorFlow brings it
    except ImportError:
        return True
    return SpecifierSet(wanted).contains(version, prereleases=True)


def _gb(size: float) -> str:
    return f"{size / _GB:.1f} GB"
