"""An exported rater as a Beam ModelHandler."""

from collections.abc import Iterable, Sequence
import os
from typing import Any, NamedTuple

from apache_beam.ml.inference.base import ModelHandler

from dr_keras.corpus_jobs.work import score_texts
from dr_keras.serving.loading import load_rater
from dr_keras.serving.window_scoring import WindowScoring


class Rating(NamedTuple):
    """What a rater says about a text.

    Attributes:
      score: float32 as a float, NaN where there is none.
      percentile: in [0, 1], under the artefact's own distribution.
      windows: how many windows the score is a mean over.
    """

    score: float
    percentile: float
    windows: int


class RaterModelHandler(ModelHandler[str | bytes, Rating, Any]):
    """Scores texts of any length; for `RunInference` and all that is built on it.

    The SavedModel is loaded with `tf.saved_model.load`, once in a process: RunInference shares it
    among threads (with `large_model=True` among processes of a machine too). A batch's texts are
    cut into windows, and windows of like length go through the network together.

    Args:
      path: an exported rater that workers can reach.
      window_scoring: how windows are scored; None: as `WindowScoring` is bound.
      min_batch_bytes, max_batch_bytes: of text in a batch that Beam makes: large enough to fill the
        network's batches, and a bound on the memory where texts are long.
      trusted: whether its graph may hold any operation, see `load_rater`.
      kwargs: others of Beam's ModelHandler (`max_batch_duration_secs`, `large_model`, ...).
    """

    def __init__(
        self,
        path: str,
        window_scoring: WindowScoring | None = None,
        min_batch_bytes: int = 1 << 16,
        max_batch_bytes: int = 4 << 20,
        trusted: bool = False,
        **kwargs,
    ):
        super().__init__(
            min_batch_size=min_batch_bytes,  # in what element_size_fn counts
            max_batch_size=max_batch_bytes,
            element_size_fn=_weight,
            **kwargs,
        )
        self._path = os.fspath(path)
        self._window_scoring = window_scoring or WindowScoring()
        self._trusted = trusted

    def load_model(self):
        """The rater; raises ArtefactError where there is none."""
        return load_rater(self._path, trusted=self._trusted)

    def run_inference(
        self, batch: Sequence[str | bytes], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Rating]:
        """One rating a text, in order."""
        del inference_args  # a rater has no settings
        columns = score_texts(model, list(batch), self._window_scoring)
        rows = zip(*(columns[name].tolist() for name in Rating._fields))
        return [Rating(*row) for row in rows]

    def get_metrics_namespace(self) -> str:
        return "dr_keras_rater"


def _weight(example) -> int:
    """Bytes or characters of a text, or of the text of a (key, text) pair."""
    text = example[1] if isinstance(example, tuple) else example
    return max(1, len(text))
