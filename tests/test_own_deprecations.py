"""A deprecated call of dr_keras' own fails the test that makes it; those of others do not."""

import logging
from pathlib import Path
import warnings

import pytest

import dr_keras

PACKAGE = Path(dr_keras.__file__).parent
LOGGED = "From {}:12: old (from tensorflow.python) is deprecated and will be removed."


@pytest.mark.parametrize("kind", [DeprecationWarning, PendingDeprecationWarning])
def test_what_python_warns_of(kind):
    with pytest.raises(kind, match="old"):
        warnings.warn_explicit("old", kind, "trainer.py", 1, module="dr_keras.meta.trainer")
    warnings.warn_explicit("old", kind, "ops.py", 1, module="tensorflow.python.ops")


def test_what_tensorflow_logs():
    logger = logging.getLogger("tensorflow")
    with pytest.raises(DeprecationWarning, match="trainer.py:12"):
        logger.warning(LOGGED.format(PACKAGE / "meta" / "trainer.py"))
    logger.warning(LOGGED.format("/elsewhere/keras/ops.py"))
    logger.warning("From here: nothing is old")


def test_tensorflow_still_says_it_in_these_words(monkeypatch):
    """So that the words above are those that come."""
    from tensorflow.python.util import deprecation

    @deprecation.deprecated(None, "Use another.")
    def old():
        pass

    monkeypatch.setattr(deprecation, "_call_location", lambda *_, **__: f"{PACKAGE}/x.py:12")
    with pytest.raises(DeprecationWarning, match="x.py:12"):
        old()
