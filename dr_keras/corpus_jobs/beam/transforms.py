"""Rating and filtering texts in any Beam pipeline, batch or streaming."""

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
import numpy as np

from dr_keras.corpus_jobs.beam.handler import RaterModelHandler, Rating
from dr_keras.corpus_jobs.filtering import check_reference
from dr_keras.data.documents import document_id
from dr_keras.rating.fractions import Decimal
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import Amount, Deciding, find_rule, reason_to_drop
from dr_keras.rating.score_files import number

NAMESPACE = "dr_keras"
_DECIDED_TOGETHER = 512


class RateTexts(beam.PTransform):
    """Elements -> (element, `Rating`).

    Args:
      rater: path of an exported rater, or a `RaterModelHandler`.
      text: element -> its text, a string or bytes.
    """

    def __init__(
        self,
        rater: str | RaterModelHandler,
        text: Callable[[Any], str | bytes] = lambda element: element["text"],
    ):
        super().__init__()
        self._handler = rater if isinstance(rater, RaterModelHandler) else RaterModelHandler(rater)
        self._text = text

    def expand(self, elements):
        text = self._text
        return (
            elements
            | "Text" >> beam.Map(lambda element: (element, text(element)))
            | "Rate" >> RunInference(KeyedModelHandler(self._handler))
        )


class FilterTexts(beam.PTransform):
    """Keeps the better share of the elements of a pipeline.

    Gives a dict of PCollections:

      kept     the elements, as they came
      dropped  dicts of id, source, score, percentile and reason
      errors   dicts of element (shortened `repr`) and reason, where there is no text to be had
      scores   dicts of id, source, score, percentile (the artefact's) and windows, of every element

    Decisions are a hash of (seed, id) against the keep probability: a retried bundle decides the
    same. Counters: kept, dropped and errors, of all and by source; the distribution
    `percentile_thousandths` by source has a mean near 500 where scores are distributed as the
    reference says.

    Args:
      rater: path of an exported rater, or a `RaterModelHandler`.
      discard_fraction, batch_size, seed, method, temperature: see `rules.decide`.
      reference: "artefact" decides each element as it comes, also in streams; "corpus" takes
        percentiles among all elements, so it waits for the last, and needs a bounded PCollection
        in the global window. A `ReferenceDistribution` may be given as well.
      text, id, source: element -> its text, id and source. An id of None becomes a hash of source
        and text.
    """

    def __init__(
        self,
        rater: str | RaterModelHandler,
        discard_fraction: Decimal,
        batch_size: int = 64,
        seed: int = 0,
        method: str = "keep_probability",
        reference: str | ReferenceDistribution = "artefact",
        text: Callable[[Any], str | bytes] = lambda element: element["text"],
        id: Callable[[Any], str | None] = lambda element: element.get("id"),
        source: Callable[[Any], str] = lambda element: element.get("source") or "",
        temperature: float | None = None,
    ):
        super().__init__()
        # refuses bad settings now
        amount = Amount(discard_fraction, batch_size, seed, temperature)
        self._settings = find_rule(method, amount).decide, amount
        if not isinstance(reference, ReferenceDistribution):
            check_reference(reference)
        self._rate = RateTexts(rater, text=_prepared_text)
        self._reference = reference
        self._prepare = _Prepare(text, id, source)

    def expand(self, elements):
        prepared = elements | "Prepare" >> beam.ParDo(self._prepare).with_outputs(
            "errors", main="texts"
        )
        rated = prepared.texts | "Rate" >> self._rate
        decided = (
            rated
            | "Batch" >> beam.BatchElements(1, _DECIDED_TOGETHER)
            | "Decide"
            >> beam.ParDo(_Decide(self._settings), self._distribution(rated)).with_outputs(
                "dropped", main="kept"
            )
        )
        return {
            "kept": decided.kept,
            "dropped": decided.dropped,
            "errors": prepared.errors,
            "scores": rated | "Scores" >> beam.Map(_score_row),
        }

    def _distribution(self, rated):
        if isinstance(self._reference, ReferenceDistribution):
            return self._reference.to_dict()
        if self._reference == "artefact":
            # read where the pipeline is made, which also shows at once whether there is a rater
            return self._rate._handler.load_model().document_reference.to_dict()
        scores = rated | "Score" >> beam.Map(lambda row: row[1].score)
        return beam.pvalue.AsSingleton(scores | beam.CombineGlobally(_Distribution()))


def _prepared_text(prepared: tuple):
    return prepared[2]


class _Prepare(beam.DoFn):
    """element -> (id, source, text, element), or an error."""

    def __init__(self, text: Callable, id: Callable, source: Callable):
        self._text, self._id, self._source = text, id, source

    def process(self, element):
        try:
            text = self._text(element)
            if not isinstance(text, (str, bytes)):
                raise TypeError(f"the text is a {type(text).__name__}")
            source = self._source(element)
            id = self._id(element)
            if id is None:
                shown = text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
                id = document_id(source, shown)
        except Exception as error:  # whatever a user's function raises about an element
            Metrics.counter(NAMESPACE, "errors").inc()
            reason = f"{type(error).__name__}: {error}"
            yield beam.pvalue.TaggedOutput(
                "errors", {"element": repr(element)[:200], "reason": reason}
            )
            return
        yield str(id), source, text, element


class _Decide(beam.DoFn):
    """Batches of (prepared, rating), and the reference -> kept and dropped."""

    def __init__(self, settings: tuple):
        self._settings = settings

    def process(self, batch: list[tuple[tuple, Rating]], reference: dict) -> Iterator:
        scores = np.array([rating.score for _, rating in batch], np.float32)
        rule, amount = self._settings
        deciding = Deciding(rule, amount, ReferenceDistribution.from_dict(reference))
        ids = [prepared[0] for prepared, _ in batch]
        decisions = deciding(ids, scores)
        rows = zip(batch, scores, decisions.keep, decisions.percentile, decisions.probability)
        for (prepared, _), score, stays, percentile, probability in rows:
            id, source, _, element = prepared
            outcome = "kept" if stays else "dropped"
            Metrics.counter(NAMESPACE, outcome).inc()
            Metrics.counter(NAMESPACE, f"{outcome}: {source}").inc()
            thousandths = Metrics.distribution(NAMESPACE, f"percentile_thousandths: {source}")
            thousandths.update(round(1000 * float(percentile)))
            if stays:
                yield element
            else:
                dropped = {
                    "id": id,
                    "source": source,
                    "score": number(score),
                    "percentile": number(percentile),
                    "reason": reason_to_drop(score, probability),
                }
                yield beam.pvalue.TaggedOutput("dropped", dropped)


def _score_row(rated: tuple[tuple, Rating]) -> dict:
    (id, source, _, _), rating = rated
    return {
        "id": id,
        "source": source,
        "score": number(rating.score),
        "percentile": number(rating.percentile),
        "windows": rating.windows,
    }


class _Distribution(beam.CombineFn):
    """All scores (4 bytes each) -> a reference distribution, whatever their order."""

    def create_accumulator(self):
        return []

    def add_input(self, accumulator, score):
        accumulator.append(score)
        return accumulator if len(accumulator) < 1 << 16 else self.compact(accumulator)

    def compact(self, accumulator):
        arrays = [np.atleast_1d(np.asarray(part, np.float32)) for part in accumulator]
        return [np.concatenate(arrays)] if arrays else []

    def merge_accumulators(self, accumulators):
        return self.compact([part for accumulator in accumulators for part in accumulator])

    def extract_output(self, accumulator):
        scores = self.compact(accumulator)
        return ReferenceDistribution.from_scores(scores[0]).to_dict() if scores else None
