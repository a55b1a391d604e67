"""The record that a run directory keeps of its configuration.

<base_dir>/parsed_config.gin            every binding of the gin files and the command line:
                                        what makes two runs the same run
<base_dir>/operative_config-<step>.gin  all values in use when the run started or resumed at
                                        that step, defaults included
"""

from collections.abc import Sequence
import os

from dr_keras.config.gin_files import exists
from dr_keras.errors import ConfigurationError
from dr_keras.system import whole_files
from dr_keras.system.whole_files import opened
import gin

PARSED_CONFIG = "parsed_config.gin"

# Long enough that gin puts every binding on one line.
_ONE_LINE = 100_000
_MOST_DIFFERENCES_SHOWN = 12
_LONGEST_VALUE_SHOWN = 80


def operative_config() -> str:
    """The values that the configurables called so far had, defaults included, as gin text."""
    return gin.operative_config_str()


def parsed_config() -> str:
    """Every binding that was parsed, one a line, sorted: as gin text, and fit to compare."""
    text = gin.config_str(max_line_length=_ONE_LINE)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return "\n".join(line for line in lines if line) + "\n"


def write_operative_config(base_dir: str | os.PathLike, step: int) -> str:
    """Writes `<base_dir>/operative_config-<step>.gin` and returns its path."""
    path = os.path.join(base_dir, f"operative_config-{step}.gin")
    whole_files.write_text(path, operative_config())
    return path


def check_same_config(
    base_dir: str | os.PathLike, text: str | None = None, may_differ: Sequence[str] = ()
) -> None:
    """Records the configuration of a new run, or compares it with the recorded one.

    Args:
      base_dir: the run directory; made if missing.
      text: the configuration; `parsed_config()` when None.
      may_differ: bindings, such as "META_STEPS" or "meta_train.meta_steps", that a resumed run may
        change; the record then takes the new values.

    Raises:
      ConfigurationError: the directory holds a run with other bindings, which are listed.
    """
    text = parsed_config() if text is None else text
    path = os.path.join(base_dir, PARSED_CONFIG)
    if exists(path):
        with opened(path) as file:
            recorded = file.read()
        known, given = _bindings(recorded), _bindings(text)
        names = sorted(set(known) | set(given))
        changed = [name for name in names if known.get(name) != given.get(name)]
        refused = [name for name in changed if name not in may_differ]
        if refused:
            raise ConfigurationError(_difference(base_dir, refused, known, given))
        if not changed:
            return
    whole_files.write_text(path, text)


def _difference(
    base_dir: str | os.PathLike, names: list[str], known: dict[str, str], given: dict[str, str]
) -> str:
    lines = [f"{base_dir} holds a run with another configuration:"]
    for name in names[:_MOST_DIFFERENCES_SHOWN]:
        before, now = (_shown(values.get(name)) for values in (known, given))
        lines.append(f"  {name}: there {before}, now {now}")
    if len(names) > _MOST_DIFFERENCES_SHOWN:
        lines.append(f"  and {len(names) - _MOST_DIFFERENCES_SHOWN} more")
    lines.append(
        "To resume that run give it its own configuration (it is in its "
        f"{PARSED_CONFIG}); to start another, name a new base_dir."
    )
    return "\n".join(lines)


def _shown(value: str | None) -> str:
    if value is None:
        return "not set"
    cut = value[: _LONGEST_VALUE_SHOWN - 3]
    return value if len(value) <= _LONGEST_VALUE_SHOWN else f"{cut}..."


def _bindings(text: str) -> dict[str, str]:
    """Values by name. Comments and imports do not make a configuration another one."""
    pairs = (line.split(" = ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
