"""Raters on Apache Beam: a ModelHandler, transforms for any pipeline, and files at scale.

Needs `pip install 'dr_keras[beam]'`; nothing else of dr_keras imports this package.
"""

try:
    import apache_beam  # noqa: F401
except ImportError as error:
    from dr_keras.errors import ConfigurationError

    raise ConfigurationError(
        f"Apache Beam cannot be imported ({error}): pip install 'dr_keras[beam]'."
    ) from error

from dr_keras.corpus_jobs.beam.handler import RaterModelHandler, Rating
from dr_keras.corpus_jobs.beam.transforms import FilterTexts, RateTexts

__all__ = ["FilterTexts", "RateTexts", "RaterModelHandler", "Rating"]
