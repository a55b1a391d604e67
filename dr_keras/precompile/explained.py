"""What tracing raises about names, shapes and dtypes, as errors that a user can act on."""

from collections.abc import Iterator
import contextlib
import re

import tensorflow as tf

from dr_keras.errors import ConfigurationError

_LONGEST = 500


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns what is raised within it into a ConfigurationError that begins with `what`."""
    try:
        yield
    except ConfigurationError:
        raise
    except KeyError as error:  # gin puts a proxy in its place, which has no arguments
        name = re.match(r"['\"]?([^'\"\n]*)", str(error))[1]
        raise ConfigurationError(
            f"{what}: the loss or a model reads the feature '{name}', which no model takes as an"
            f" input: name it, for instance --feature {name}:int32, or use --read_data."
        ) from error
    except (ValueError, TypeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:_LONGEST]
        raise ConfigurationError(f"{what}: {reason}") from error
