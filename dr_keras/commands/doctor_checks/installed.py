"""Facts about what is installed, judged."""

from collections.abc import Iterator

from dr_keras.commands.doctor_checks.finding import (
    LIBTPU,
    OK,
    PIP,
    PROBLEM,
    WARNING,
    Finding,
    has_tpu,
    imports_nothing,
    tensorflow_version,
    value_of,
)  # fmt: skip

_OPTIONAL = {
    "beam": ("apache-beam",),
    "serving": ("tensorflow-serving-api",),
    "aot": ("jax",),
    "study": ("scikit-learn", "scipy", "jinja2", "matplotlib"),
}


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
            yield Finding(PROBLEM, "packages", text, f"{PIP} '{name}{wanted}'")
        else:
            fine.append(f"{name} {version}")
    if absent:
        wanted = facts["requirements"]["packages"]
        fix = " ".join([PIP, *(f"'{name}{wanted[name]}'" for name in absent)])
        yield Finding(PROBLEM, "packages", f"not installed: {', '.join(absent)}", fix)
    if versions.get("keras-hub"):
        fine.append(f"keras-hub {versions['keras-hub']}")
    if fine:
        yield Finding(OK, "packages", ", ".join(sorted(fine)))
    for extra, names in _OPTIONAL.items():
        absent = [name for name in names if not versions.get(name)]
        if absent:
            verb = "is" if len(absent) == 1 else "are"
            text = f"{', '.join(absent)} {verb} not installed: {PIP} 'dr_keras[{extra}]'"
        else:
            text = ", ".join(f"{name} {versions[name]}" for name in names)
        yield Finding(OK, f"optional: {extra}", text)


def tensorflow(facts: dict) -> Iterator[Finding]:
    versions, files = facts["versions"], facts["tensorflow_files"]
    wanted = facts["requirements"]["packages"].get("tensorflow", "")
    whole = [name for name, (there, of) in files.items() if of and there == of]
    if not files:
        if "error" in facts["probe"]["steps"].get("tensorflow", {"error": ""}):
            yield Finding(PROBLEM, "TensorFlow", "is not installed", f"{PIP} 'tensorflow{wanted}'")
        return
    named = " and ".join(f"{name} {versions[name]}" for name in files)
    if len(files) == 1:
        (name,) = files
        if not whole and files[name][1]:
            yield Finding(
                PROBLEM, "TensorFlow", f"the files of {named} are not those that were installed",
                f"{PIP} --no-deps --force-reinstall '{name}=={versions[name]}'",
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
            PROBLEM if has_tpu(facts) else WARNING, "TensorFlow",
            f"{named} write the same folder, and the files there are those of {whole[0]}",
            _choose(facts),
        )  # fmt: skip
    name = (whole or list(files))[0]
    if _fits(versions[name], wanted):
        text = f"{versions[name]}, from the wheel {name}"
        kinds = value_of(facts, "tensorflow", {}).get("build", [])
        yield Finding(OK, "TensorFlow", f"{text}{f', built for {kinds[0]}' if kinds else ''}")
    else:
        yield Finding(
            PROBLEM, "TensorFlow", f"{name} {versions[name]}, and dr_keras needs {wanted}",
            f"{PIP} '{name}{wanted}'",
        )  # fmt: skip


def _choose(facts: dict) -> str:
    versions = facts["versions"]
    if "tensorflow-tpu" in facts["tensorflow_files"]:
        tpu = f"{PIP} --no-deps --force-reinstall 'tensorflow-tpu=={versions['tensorflow-tpu']}'"
        others = [name for name in facts["tensorflow_files"] if name != "tensorflow-tpu"]
        if has_tpu(facts) or not others:
            return tpu
        plain = f"{others[0]}=={versions[others[0]]}"
        return (
            f"for a TPU: {tpu}; without one: pip uninstall tensorflow-tpu, then {PIP} --no-deps"
            f" --force-reinstall '{plain}'"
        )
    keep = next(iter(facts["tensorflow_files"]))
    names = " ".join(facts["tensorflow_files"])
    return f"pip uninstall {names}, then {PIP} '{keep}=={versions[keep]}'"


def imported(facts: dict) -> Iterator[Finding]:
    probe = facts["probe"]
    during, ended = probe.get("during"), probe.get("ended")
    if ended:
        fix = "run it by hand to see what it says: python -c 'import tensorflow'"
        if during == "tensorflow" and ended == "SIGILL":
            fix = "this processor lacks instructions that the wheel needs (AVX): another machine"
        elif during in ("tensorflow", "libtpu") and facts["versions"].get("libtpu"):
            fix = f"{PIP} --no-deps '{LIBTPU}'"
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
            f"{PIP} --no-deps --force-reinstall '{name}=={facts['versions'][name]}'",
        )  # fmt: skip


def _last(probe: dict) -> str:
    lines = [line.strip() for line in probe.get("log", "").splitlines() if line.strip()]
    return f": {lines[-1][:200]}" if lines else ""


def tensorflow_text(facts: dict) -> Iterator[Finding]:
    version = facts["versions"].get("tensorflow-text")
    of = tensorflow_version(facts)
    fix = f"{PIP} 'tensorflow-text{facts['requirements']['packages'].get('tensorflow-text', '')}'"
    if of:
        fix = f"{PIP} --no-deps 'tensorflow-text=={_minor(of)}.*'"
    step = facts["probe"]["steps"].get("text", {})
    if version is None:
        yield Finding(PROBLEM, "tensorflow-text", "is not installed", fix)
    elif of and _minor(version) != _minor(of):
        yield Finding(
            PROBLEM, "tensorflow-text",
            f"{version} beside TensorFlow {of}: both must have the same minor version", fix,
        )  # fmt: skip
    elif "error" in step and not imports_nothing(facts):
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
    elif "error" in step and not imports_nothing(facts):
        fix = f"{PIP} --force-reinstall 'keras{facts['requirements']['packages']['keras']}'"
        yield Finding(PROBLEM, "Keras", f"fails: {step['error']}", fix)
    elif "value" in step:
        yield Finding(OK, "Keras backend", step["value"]["backend"])


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _fits(version: str, wanted: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet  # TensorFlow brings it
    except ImportError:
        return True
    return SpecifierSet(wanted).contains(version, prereleases=True)
