"""Is a rater better than chance? Its judgement, on trainings that chose nothing.

    <base_dir>/judgement.json           the judgement
    <base_dir>/judgement-partial.jsonl  trainings made so far, a line each, until it is whole

The meta-evaluations of meta-training are short and many, and the best of many looks good by chance.
So the raters that they chose are judged again: by more and longer trainings, from other weights and
on other batches. Each training has a twin from the same weights that chooses at random from the
same batches, and the gain is the mean difference of the pairs. A rater helps where its gain is
beyond two standard errors, as `dr_keras.training.paired_gain` widens them for few pairs.
"""

from collections.abc import Callable, Mapping
import dataclasses
import hashlib
import json
import os
import pathlib
import time

import numpy as np

from dr_keras.data.examples import document_ids
from dr_keras.errors import CheckpointError, ConfigurationError, NonFiniteError
from dr_keras.meta.checkpoints import load_rater_weights, rater_path
from dr_keras.meta.checks import at_least
from dr_keras.meta.seeds import derive_seed
from dr_keras.runs.experiment import Experiment
from dr_keras.runs.verdict import JudgedRater, Judgement, sentence
from dr_keras.system import whole_files
from dr_keras.system.progress import Progress
from dr_keras.training import flops
from dr_keras.training.meta_evaluation import bound_settings, training_flops
from dr_keras.training.paired_gain import PairedGain, paired_gain
import gin

FILE = "judgement.json"
_PARTIAL = "judgement-partial.jsonl"


@gin.configurable(denylist=["setup", "raters", "base_dir", "made"])
def judge(
    setup: Experiment,
    raters: Mapping[str, tuple[str | os.PathLike, int]],
    base_dir: str | os.PathLike | None = None,
    made: Mapping[str, float] | None = None,
    repeats: int = 5,
    updates: int | None = None,
    batch_size: int | None = None,
    discard_fraction: float | None = None,
    validation_size: int = 1024,
    seed: int | None = None,
) -> Judgement:
    """Judges raters beside a random choice, on the validation part.

    Args:
      setup: the experiment that they were made in; its rater is lent to them and given back.
      raters: name, such as "refined" -> (run of meta_train, meta-step).
      base_dir: where the judgement is written and, if it is there already, read; None keeps it
        nowhere.
      made: name -> operations that making the rater took, where they are known.
      repeats: pairs of trainings. With fewer than two nothing is ever judged to help; with few,
        more than two standard errors are asked for (2.9 with five, 4.5 with three).
      updates: of each training; None takes four times those of `MetaEvaluation`.
      batch_size, discard_fraction: None takes those of `MetaEvaluation`.
      validation_size: at most so many validation examples, evenly spread.
      seed: of initialisations and batches; None derives one from the run's.

    Raises:
      CheckpointError: a run has no such rater.
      ConfigurationError: a setting out of its range.
      NonFiniteError: a training on a random choice has no finite loss.
    """
    if not raters:
        raise ConfigurationError("judge: there is no rater to judge.")
    at_least("judge.repeats", repeats, 1)
    known = bound_settings()
    settings = {
        "updates": 4 * known["updates"] if updates is None else updates,
        "batch_size": known["batch_size"] if batch_size is None else batch_size,
        "discard_fraction": known["discard_fraction"]
        if discard_fraction is None
        else discard_fraction,
        "validation_size": validation_size,
        "seed": derive_seed(setup.seed, "judgement") if seed is None else seed,
    }
    trained_as = _digest([settings, setup.parts.fingerprint])
    of_rater = {name: _weights_digest(*place) for name, place in raters.items()}
    key = _digest([trained_as, of_rater, repeats])
    folder = None if base_dir is None else pathlib.Path(base_dir)
    if folder and (found := read_judgement(folder)) and found.key == key:
        return found
    trainings = _Trainings(setup, settings, repeats, folder, trained_as)
    return trainings.judged(dict(raters), of_rater, key, dict(made or {}))


def read_judgement(base_dir: str | os.PathLike) -> Judgement | None:
    """The judgement in a folder; None where there is none.

    Raises:
      CheckpointError: the file is damaged, or of another version.
    """
    path = pathlib.Path(base_dir) / FILE
    try:
        return Judgement.of(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): remove it, and the raters are judged again."
        ) from error


class _Trainings:
    """The trainings of a judgement, those of an earlier call included."""

    def __init__(
        self,
        setup: Experiment,
        settings: dict,
        repeats: int,
        folder: pathlib.Path | None,
        trained_as: str,
    ):
        self._setup, self._settings, self._repeats = setup, settings, repeats
        self._folder, self._trained_as = folder, trained_as
        self._evaluation = setup.meta_evaluation(repeats=repeats, **settings)
        self._made = self._read_partial()

    def judged(
        self, raters: dict, of_rater: dict[str, str], key: str, made: dict[str, float]
    ) -> Judgement:
        """Makes what is left of the trainings, and the judgement."""
        rows = self._evaluation.validation
        # Pair by pair: what an interrupted judgement has is of use to all.
        steps = self._settings["updates"]
        total = self._repeats * (1 + len(raters)) * steps
        progress, done = Progress("judging", total, "updates"), 0
        sums: dict[str | None, list] = {name: [] for name in (None, *raters)}
        counts, seconds = np.zeros(len(rows)), 0.0
        setup, before = self._setup, self._setup.rater.get_weights()
        try:
            for pair in range(self._repeats):
                for name in sums:
                    if name is not None:
                        load_rater_weights(setup.rater, *raters[name])
                    which = {None: "random choice", "rater": "rater"}.get(name, f"{name} rater")
                    note = f"pair {pair + 1} of {self._repeats}, {which}"
                    shown = _shown(progress, done, note)
                    found = self._training(pair, of_rater.get(name or "", "random"), name, shown)
                    counts, done = np.asarray(found["counts"]), done + steps
                    sums[name].append(found["sums"])
                    seconds += found["seconds"]
                    if name is None and not np.isfinite(found["sums"]).all():
                        raise NonFiniteError(
                            f"judge: after {steps} updates on a random choice the validation loss"
                            " is not finite. Lower the learning rate of MetaEvaluation.optimizer,"
                            " or set meta_train.judged = False."
                        )
        finally:
            setup.rater.set_weights(before)
        progress.close()
        owners = document_ids(rows)
        chance = np.asarray(sums.pop(None))
        gains = {
            name: paired_gain(chance, np.asarray(s), counts, owners, len(raters))
            for name, s in sums.items()
        }
        better = [name for name, gain in gains.items() if gain.outcome == "better"]
        chosen = max(better, key=lambda name: gains[name].gain or 0.0) if better else None
        judged = []
        for name, (run, step) in raters.items():
            behind = PairedGain(None, None, None)
            if chosen not in (None, name):
                behind = paired_gain(
                    np.asarray(sums[name]), np.asarray(sums[chosen]), counts, owners
                )
            judged.append(
                JudgedRater(
                    name=name,
                    run=self._place(run),
                    step=step,
                    losses=_losses(np.asarray(sums[name]), counts),
                    **vars(gains[name]),
                    outcome=gains[name].outcome,
                    behind=behind.gain,
                    behind_error=behind.standard_error,
                    made_flops=made.get(name),
                    weights=of_rater[name],
                )
            )
        judgement = Judgement(
            random=_losses(chance, counts),
            raters=judged,
            chosen=chosen,
            helps=chosen is not None,
            text="",
            updates=steps,
            batch_size=self._settings["batch_size"],
            discard_fraction=float(self._settings["discard_fraction"]),
            validation_examples=len(rows),
            validation_documents=len(np.unique(owners)),
            unit="nats per token" if "tokens" in rows.features else "",
            target=getattr(setup.parts, "target", None),
            flops=self._flops(1 + len(raters)),
            seconds=round(seconds, 3),
            key=key,
        )
        judgement = dataclasses.replace(judgement, text=sentence(judgement))
        if self._folder:
            content = json.dumps(judgement.as_json(), indent=1, allow_nan=False) + "\n"
            whole_files.write_text(self._folder / FILE, content)
            (self._folder / _PARTIAL).unlink(missing_ok=True)
        return judgement

    def _place(self, run: str | os.PathLike) -> str:
        """A run's folder from that of the judgement, so that both may be moved together."""
        if not self._folder:
            return os.fspath(run)
        return pathlib.PurePath(os.path.relpath(run, self._folder)).as_posix()

    def _training(
        self, pair: int, weights: str, name: str | None, progress: Callable[[int], None]
    ) -> dict:
        key = _digest([self._trained_as, weights, pair])
        if key not in self._made:
            started = time.monotonic()
            sums, counts = self._evaluation.row_losses(pair, name is not None, progress)
            self._made[key] = {
                "key": key,
                "sums": sums.tolist(),
                "counts": counts.tolist(),
                "seconds": time.monotonic() - started,
            }
            if self._folder:
                path = self._folder / _PARTIAL
                with whole_files.writing(path), open(path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(self._made[key]) + "\n")
        progress(self._settings["updates"])
        return self._made[key]

    def _read_partial(self) -> dict[str, dict]:
        path = self._folder / _PARTIAL if self._folder else None
        if path is None or not path.exists():
            return {}
        found = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # of a process that was killed
            found[record["key"]] = record
        # What a killed process left without its end must not take the next line with it.
        lines = "".join(json.dumps(record) + "\n" for record in found.values())
        whole_files.write_text(path, lines)
        return found

    def _flops(self, number: int) -> int | None:
        """Operations of all trainings; None where they cannot be counted."""
        shapes = flops.feature_shapes(self._setup.parts.train.features)
        try:
            inner = flops.forward_flops(self._evaluation.structure, shapes)
            rater = flops.forward_flops(self._setup.rater, shapes)
        except (ConfigurationError, KeyError, ValueError):  # a rater that reads a member's state
            return None
        rows = len(self._evaluation.validation)
        return number * self._repeats * training_flops(inner, rater, self._settings, rows)


def _shown(progress: Progress, done: int, note: str) -> Callable[[int], None]:
    return lambda made: progress.update(done + made, note)


def _losses(sums: np.ndarray, counts: np.ndarray) -> list[float | None]:
    """Loss of each training, None where it is not finite."""
    losses = np.asarray(sums).sum(axis=1) / counts.sum()
    return [float(loss) if np.isfinite(loss) else None for loss in losses]


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _weights_digest(run: str | os.PathLike, step: int) -> str:
    path = rater_path(run, step)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{run} has no rater of meta-step {step} to judge.") from error
