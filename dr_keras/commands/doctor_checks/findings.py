"""Facts judged: each check is a function from what `machine` and `probe` found to findings."""

from collections.abc import Callable, Iterator

from dr_keras.commands.doctor_checks import hardware, installed
from dr_keras.commands.doctor_checks.finding import WARNING, Finding

CHECKS: list[Callable[[dict], Iterator[Finding]]] = [
    installed.python,
    installed.packages,
    installed.tensorflow,
    installed.imported,
    installed.tensorflow_text,
    installed.keras_backend,
    hardware.devices,
    hardware.tpu,
    hardware.xla,
    hardware.configuration,
    hardware.shipped_rater,
    hardware.memory,
    hardware.folders,
    hardware.threads,
    hardware.settings,
]


def findings(facts: dict) -> list[Finding]:
    """All of them, in the order of the report. A check that fails is a finding itself."""
    found = [
        _defect(name, f"could not be looked at: {fact['error']}")
        for name, fact in facts.items()
        if isinstance(fact, dict) and "error" in fact
    ]
    for check in CHECKS:
        try:
            found += check(facts)
        except Exception as error:
            reason = f"this could not be checked ({type(error).__name__}: {error})"
            found.append(_defect(check.__name__, reason))
    return found


def _defect(name: str, text: str) -> Finding:
    return Finding(WARNING, name.replace("_", " "), text, "report it as a defect of dr_keras")
