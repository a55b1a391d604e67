"""Errors a user can act on: what is wrong, where, and what to do.

Entry points print them as one line and exit with status 2; anything else is a defect of dr_keras
and keeps its traceback.
"""


class DrKerasError(Exception):
    """Base of every error that dr_keras raises on purpose."""


class ConfigurationError(DrKerasError, ValueError):
    """A setting is unknown, out of its range, or contradicts another one."""


class DataError(DrKerasError, ValueError):
    """A corpus, file or record cannot be used as it is."""


class CheckpointError(DrKerasError):
    """A run directory or checkpoint is missing, damaged, or belongs to another run."""


class NonFiniteError(DrKerasError, ArithmeticError):
    """A loss or meta-gradient is NaN or infinite."""


class WorkerLostError(DrKerasError, RuntimeError):
    """Another process of a run on several machines does not answer any more."""


class ArtefactError(DrKerasError):
    """A directory is not an exported rater, or only part of one."""
