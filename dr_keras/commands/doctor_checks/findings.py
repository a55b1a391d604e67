"""Facts judged: each check is a function from what `machine` and `probe` found to findings."""

from collections.abc import Callable, Iterator
import dataclasses

OK, WARNING, PROBLEM = "ok", "warning", "problem"
PIP = "pip install"
# tensorflow-tpu 2.20 imports with this libtpu; with newer ones the process ends.
LIBTPU = "libtpu==0.0.17"
_FOR_TPU = f"{PIP} --no-deps '{LIBTPU}'"
_OPTIONAL = {
    "beam": ("apache-beam",),
    "serving": ("tensorflow-serving-api",),
    "aot": ("jax",),
    "litert": ("ai-edge-litert",),
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "study": ("scikit-learn", "scipy", "jinja2", "matplotlib"),
}
_GB = 1e9


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


def _found(level: str, text: str, fix: str = "", about: str = "") -> Finding:
    """A finding about what its check is about, or about something else that is named."""
    return Finding(level, about, text, fix)


Check = Callable[[dict], Iterator[Finding]]
CHECKS: dict[Check, str] = {}


def _check(about: str) -> Callable[[Check], Check]:
    """The function below it looks at `about`, in the order of this file, which the report has."""

    def add(function: Check) -> Check:
        CHECKS[function] = about
        return function

    return add


def findings(facts: dict) -> list[Finding]:
    """All of them, in the order of the report. A check that fails is a finding itself."""
    found = [
        _defect(name, f"could not be looked at: {fact['error']}")
        for name, fact in facts.items()
        if isinstance(fact, dict) and "error" in fact
    ]
    for check, about in CHECKS.items():
        try:
            for one in check(facts):
                found.append(dataclasses.replace(one, about=one.about or about))
        except Exception as error:
            reason = f"this could not be checked ({type(error).__name__}: {error})"
            found.append(_defect(check.__name__, reason))
    return found


def _defect(name: str, text: str) -> Finding:
    return _found(WARNING, text, "report it as a defect of dr_keras", name.replace("_", " "))


# ------------------------------------------------------------------ what several ask of the facts


def _step(facts: dict, name: str) -> dict:
    """What the probe said of one of its steps; empty where it did not come so far."""
    return facts["probe"]["steps"].get(name, {})


def _value(facts: dict, name: str, default):
    return _step(facts, name).get("value", default)


def _imports_nothing(facts: dict) -> bool:
    """Whether TensorFlow cannot be imported: what fails after that says nothing new."""
    return "error" in _step(facts, "tensorflow")


def _tpu_nodes(facts: dict) -> list[str]:
    return [node for node in facts["nodes"] if node.startswith(("/dev/accel", "/dev/vfio"))]


def _tensorflow_version(facts: dict) -> str | None:
    """The one that is imported, else the one whose wheel is there."""
    named = [facts["versions"].get(name) for name in facts["tensorflow_files"]]
    return _value(facts, "tensorflow", {}).get("version") or next(iter(named), None)


def _gb(size: float) -> str:
    return f"{size / _GB:.1f} GB"


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _fits(version: str, wanted: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet  # TensorFlow brings it
    except ImportError:
        return True
    return SpecifierSet(wanted).contains(version, prereleases=True)


# ------------------------------------------------------------------------------ what is installed


@_check("Python")
def python(facts: dict) -> Iterator[Finding]:
    version, wanted = facts["python"]["version"], facts["requirements"]["python"]
    text = f"{version} ({facts['python']['executable']})"
    if _fits(version, wanted):
        yield _found(OK, text)
    else:
        fix = "make a new environment: python3.12 -m venv .venv"
        yield _found(PROBLEM, f"{text}, and dr_keras needs {wanted}", fix)


@_check("packages")
def packages(facts: dict) -> Iterator[Finding]:
    versions, fine, absent = facts["versions"], [], []
    yield _found(OK, versions["dr_keras"], about="dr_keras")
    for name, wanted in facts["requirements"]["packages"].items():
        version = versions.get(name, "")
        if name in ("tensorflow", "tensorflow-text") or version == "":
            continue  # judged below; or known to nobody here
        if version is None:
            absent.append(name)
        elif not _fits(version, wanted):
            text = f"{name} {version}, and dr_keras needs {wanted}"
            yield _found(PROBLEM, text, f"{PIP} '{name}{wanted}'")
        else:
            fine.append(f"{name} {version}")
    if absent:
        wanted = facts["requirements"]["packages"]
        fix = " ".join([PIP, *(f"'{name}{wanted[name]}'" for name in absent)])
        yield _found(PROBLEM, f"not installed: {', '.join(absent)}", fix)
    if versions.get("keras-hub"):
        fine.append(f"keras-hub {versions['keras-hub']}")
    if fine:
        yield _found(OK, ", ".join(sorted(fine)))
    for extra, names in _OPTIONAL.items():
        missing = [name for name in names if not versions.get(name)]
        text = f"{', '.join(missing)} not installed: {PIP} 'dr_keras[{extra}]'"
        if not missing:
            text = ", ".join(f"{name} {versions[name]}" for name in names)
        yield _found(OK, text, about=f"optional: {extra}")


@_check("TensorFlow")
def tensorflow(facts: dict) -> Iterator[Finding]:
    versions, files = facts["versions"], facts["tensorflow_files"]
    wanted = facts["requirements"]["packages"].get("tensorflow", "")
    whole = [name for name, (there, of) in files.items() if of and there == of]
    if not files:
        if not _value(facts, "tensorflow", None):
            yield _found(PROBLEM, "is not installed", f"{PIP} 'tensorflow{wanted}'")
        return
    named = " and ".join(f"{name} {versions[name]}" for name in files)
    if len(files) == 1:
        (name,) = files
        if not whole and files[name][1]:
            text = f"the files of {named} are not those that were installed"
            yield _found(PROBLEM, text, _reinstalled(facts, name))
    elif not whole:
        text = f"{named} write the same folder, and what lies there is a mixture of them"
        yield _found(PROBLEM, text, _choose(facts))
    elif whole != ["tensorflow-tpu"] and "tensorflow-tpu" in files:
        # the documented way to a TPU installs both, tensorflow-tpu last
        text = f"{named} write the same folder, and the files there are those of {whole[0]}"
        yield _found(PROBLEM if _tpu_nodes(facts) else WARNING, text, _choose(facts))
    name = (whole or list(files))[0]
    if _fits(versions[name], wanted):
        text = f"{versions[name]}, from the wheel {name}"
        kinds = _value(facts, "tensorflow", {}).get("build", [])
        yield _found(OK, f"{text}{f', built for {kinds[0]}' if kinds else ''}")
    else:
        text = f"{name} {versions[name]}, and dr_keras needs {wanted}"
        yield _found(PROBLEM, text, f"{PIP} '{name}{wanted}'")


def _reinstalled(facts: dict, name: str) -> str:
    return f"{PIP} --no-deps --force-reinstall '{name}=={facts['versions'][name]}'"


def _choose(facts: dict) -> str:
    versions = facts["versions"]
    if "tensorflow-tpu" in facts["tensorflow_files"]:
        tpu = _reinstalled(facts, "tensorflow-tpu")
        others = [name for name in facts["tensorflow_files"] if name != "tensorflow-tpu"]
        if _tpu_nodes(facts) or not others:
            return tpu
        plain = _reinstalled(facts, others[0])
        return f"for a TPU: {tpu}; without one: pip uninstall tensorflow-tpu, then {plain}"
    keep = next(iter(facts["tensorflow_files"]))
    names = " ".join(facts["tensorflow_files"])
    return f"pip uninstall {names}, then {PIP} '{keep}=={versions[keep]}'"


@_check("TensorFlow")
def imported(facts: dict) -> Iterator[Finding]:
    probe = facts["probe"]
    during, ended = probe.get("during"), probe.get("ended")
    if ended:
        fix = "run it by hand to see what it says: python -c 'import tensorflow'"
        if during == "tensorflow" and ended == "SIGILL":
            fix = "this processor lacks instructions that the wheel needs (AVX): another machine"
        elif during in ("tensorflow", "libtpu") and facts["versions"].get("libtpu"):
            fix = _FOR_TPU
        elif ended == "SIGKILL":
            fix = "memory ran out: close other programs, or raise the limit of the container"
        about = f"trying {during}" if during else "trying it"
        yield _found(PROBLEM, f"ended the process ({ended}){_last(probe)}", fix, about)
    error = _step(facts, "tensorflow").get("error")
    if error and facts["tensorflow_files"]:
        fix = _reinstalled(facts, next(iter(facts["tensorflow_files"])))
        yield _found(PROBLEM, f"cannot be imported: {error}", fix)


def _last(probe: dict) -> str:
    lines = [line.strip() for line in probe.get("log", "").splitlines() if line.strip()]
    return f": {lines[-1][:200]}" if lines else ""


@_check("tensorflow-text")
def tensorflow_text(facts: dict) -> Iterator[Finding]:
    version = facts["versions"].get("tensorflow-text")
    of = _tensorflow_version(facts)
    fix = f"{PIP} 'tensorflow-text{facts['requirements']['packages'].get('tensorflow-text', '')}'"
    if of:
        fix = f"{PIP} --no-deps 'tensorflow-text=={_minor(of)}.*'"
    step = _step(facts, "text")
    if version is None:
        yield _found(PROBLEM, "is not installed", fix)
    elif of and _minor(version) != _minor(of):
        text = f"{version} beside TensorFlow {of}: both must have the same minor version"
        yield _found(PROBLEM, text, fix)
    elif "error" in step and not _imports_nothing(facts):
        yield _found(PROBLEM, f"{version} fails: {step['error']}", fix)
    else:
        yield _found(OK, version)


@_check("Keras backend")
def keras_backend(facts: dict) -> Iterator[Finding]:
    asked = facts["environment"].get("KERAS_BACKEND", "tensorflow")
    step = _step(facts, "keras")
    if asked != "tensorflow":
        text = f"KERAS_BACKEND is {asked!r}, and dr_keras runs on TensorFlow"
        yield _found(PROBLEM, text, "unset KERAS_BACKEND")
    elif "error" in step and not _imports_nothing(facts):
        fix = f"{PIP} --force-reinstall 'keras{facts['requirements']['packages']['keras']}'"
        yield _found(PROBLEM, f"fails: {step['error']}", fix, "Keras")
    elif "value" in step:
        yield _found(OK, step["value"]["backend"])


# ------------------------------------------------------- the machine, and what was tried on it


@_check("devices")
def devices(facts: dict) -> Iterator[Finding]:
    seen = _value(facts, "devices", None)
    if seen is None:
        return
    counts = {kind: seen.count(kind) for kind in dict.fromkeys(seen)}
    text = ", ".join(f"{count} {kind}" for kind, count in counts.items() if "XLA" not in kind)
    nvidia = [node for node in facts["nodes"] if node.startswith("/dev/nvidia")]
    hidden = facts["environment"].get("CUDA_VISIBLE_DEVICES")
    if nvidia and "GPU" not in counts and hidden in ("", "-1"):
        text += f"; CUDA_VISIBLE_DEVICES hides {len(nvidia)} GPU"
        yield _found(WARNING, text, "unset CUDA_VISIBLE_DEVICES")
    elif nvidia and "GPU" not in counts:
        wanted = f"tensorflow[and-cuda]=={_tensorflow_version(facts)}"
        text += f"; TensorFlow does not see {', '.join(nvidia)}"
        fix = f"{PIP} '{wanted}', and a driver that it accepts (nvidia-smi)"
        yield _found(WARNING, text, fix)
    else:
        yield _found(OK, text)


@_check("TPU")
def tpu(facts: dict) -> Iterator[Finding]:
    version, step = facts["versions"].get("libtpu"), _step(facts, "libtpu")
    wheel = facts["versions"].get("tensorflow-tpu")
    nodes = _tpu_nodes(facts)
    here = f"{len(nodes)} device file{'s' * (len(nodes) != 1)}" if nodes else "no TPU here"
    if nodes and not wheel:
        fix = "see docs/distributed.md: install tensorflow-tpu last, with its libtpu"
        yield _found(WARNING, f"{here} ({nodes[0]}, ...), but no tensorflow-tpu", fix)
    elif wheel and not version:
        yield _found(PROBLEM, f"tensorflow-tpu {wheel} without libtpu", _FOR_TPU)
    elif version and "error" in step:
        text = f"libtpu {version} cannot be loaded: {step['error']}"
        yield _found(PROBLEM if wheel else WARNING, text, _FOR_TPU)
    elif version:
        yield _found(OK, f"libtpu {version} loads; {here}")
    else:
        yield _found(OK, f"{here}, and no libtpu")


@_check("XLA")
def xla(facts: dict) -> Iterator[Finding]:
    step = _step(facts, "xla")
    if not step or _imports_nothing(facts):
        return
    flags = facts["environment"].get("XLA_FLAGS") or facts["environment"].get("TF_XLA_FLAGS")
    fix = "unset XLA_FLAGS and TF_XLA_FLAGS" if flags else "reinstall TensorFlow"
    if "error" in step:
        yield _found(PROBLEM, f"does not compile: {step['error']}", fix)
    elif step["value"] != 7.0:
        yield _found(PROBLEM, f"computes 2 * 3 + 1 = {step['value']}", fix)
    else:
        yield _found(OK, f"compiles and computes ({step['seconds']:.1f} s)")


@_check("gin files")
def configuration(facts: dict) -> Iterator[Finding]:
    yield from _tried(facts, "gin", lambda n: (n > 0, f"{n} come with dr_keras"))


@_check("shipped rater")
def shipped_rater(facts: dict) -> Iterator[Finding]:
    def judge(scores):
        clean, damaged = scores
        return clean > damaged, f"scores prose {clean:.2f} and damaged prose {damaged:.2f}"

    yield from _tried(facts, "rater", judge)


def _tried(facts: dict, name: str, judge: Callable) -> Iterator[Finding]:
    step = _step(facts, name)
    if not step or _imports_nothing(facts):
        return
    fine, text = (False, step["error"]) if "error" in step else judge(step["value"])
    fix = "put right what stands above; else install dr_keras anew"
    yield _found(OK, text) if fine else _found(PROBLEM, text, fix)


@_check("memory")
def memory(facts: dict) -> Iterator[Finding]:
    found = facts["memory"]
    bound = min(found["total"], found.get("limit", found["total"]))
    text = f"{_gb(found['total'])}"
    if "available" in found:
        text += f", {_gb(found['available'])} of them free"
    if "limit" in found:
        text += f"; this container may use {_gb(found['limit'])}"
    if bound < 2 * _GB:
        fix = "TensorFlow alone takes 1 GB: use a machine or a container with 4 GB or more"
        yield _found(PROBLEM, text, fix)
    elif bound < 4 * _GB or found.get("available", bound) < 2 * _GB:
        fix = "close other programs, or use one worker and small batches"
        yield _found(WARNING, text, f"the quick start wants 4 GB: {fix}")
    else:
        yield _found(OK, text)


@_check("folders")
def folders(facts: dict) -> Iterator[Finding]:
    for role, folder in facts["folders"].items():
        free = folder.get("free")
        text = f"{folder['path']}{f', {_gb(free)} free' if free is not None else ''}"
        temporary = role.startswith("temporary")
        other = "export TMPDIR=/a/folder/of/yours" if temporary else "work in another folder"
        if "error" in folder:
            level = PROBLEM if temporary else WARNING
            fix = other if temporary else f"{other}, or name outputs by whole paths"
            yield _found(level, f"{text}: {folder['error']}", fix, role)
        elif free is not None and free < _GB:
            yield _found(WARNING, text, f"make room, or {other}", role)
        else:
            yield _found(OK, text, about=role)


@_check("threads")
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
            wrong.append(_found(WARNING, f"{name} is {value!r}, no number", f"unset {name}"))
        elif int(value) > few:
            said = f"{name} is {value}, and there are {few} cores"
            wrong.append(_found(WARNING, said, f"export {name}={few}"))
    yield from wrong
    if few < cores["usable"] and "TF_NUM_INTRAOP_THREADS" not in given:
        fix = f"export TF_NUM_INTRAOP_THREADS={few} TF_NUM_INTEROP_THREADS={few}"
        yield _found(WARNING, f"{text}: more threads than cores slow it down", fix)
    elif not wrong:
        yield _found(OK, text)


@_check("settings")
def settings(facts: dict) -> Iterator[Finding]:
    environment = facts["environment"]
    legacy = "TF_USE_LEGACY_KERAS"
    if environment.get(legacy, "0").lower() not in ("", "0", "false"):
        yield _found(PROBLEM, "is set, and dr_keras needs Keras 3", f"unset {legacy}", legacy)
    if facts["encoding"]["files"].lower().replace("-", "") != "utf8":
        text = f"Python reads them as {facts['encoding']['files']}, and TensorFlow as UTF-8"
        yield _found(WARNING, text, "export LC_ALL=C.UTF-8", "file names")
    shown = [
        f"{name}={value[:60]}"
        for name, value in environment.items()
        if (name, value) != ("KERAS_BACKEND", "tensorflow")  # every command sees to that
    ]
    yield _found(OK, ", ".join(shown) or "nothing that TensorFlow reads is set")
