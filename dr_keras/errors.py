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


# How autograph begins its account of an error in a traced function, and Keras that in a layer.
_WRAPPINGS = ("in user code:", "Exception encountered when calling")


def as_raised(error: Exception) -> Exception:
    """The DrKerasError inside of what TensorFlow or Keras made of it, or `error` itself.

    What is raised while a function is traced comes out as another error, whose message is the
    traceback of that function; what is raised in a layer has the layer's arguments in its message.
    """
    text = " ".join(str(error).split())
    if not any(wrapping in text for wrapping in _WRAPPINGS):
        return error
    inner: BaseException | None = error
    seen: set[int] = set()
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        said = " ".join(str(inner).split())
        if isinstance(inner, DrKerasError) and not any(wrap in said for wrap in _WRAPPINGS):
            # an error that happens to have been handled before is not quoted
            return inner if said in text else error
        inner = inner.__cause__ or inner.__context__
    return error
