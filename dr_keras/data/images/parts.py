"""From a set of images to the four parts of examples, the train part corrupted on request.

The study of the paper's appendix (a rater that finds corrupted MNIST images) needs damage whose
level is known, so that scores can be held against it: noise in place of pixels, wrong labels. A
kind of corruption is a gin-configurable callable `(images, labels, classes, rng) -> Corruption`;
pure, as all randomness is `rng`'s.
"""

from collections.abc import Callable, Sequence
import dataclasses
import logging
import os
from typing import NamedTuple

import numpy as np

from dr_keras.data.datasets import check_alike, check_unique, split_rows
from dr_keras.data.examples import ExampleSet, Parts, objects
from dr_keras.data.images.sources import Images, Table, find_images
from dr_keras.data.overlap import content_keys
from dr_keras.errors import ConfigurationError, DataError
import gin

_logger = logging.getLogger(__name__)

# Random numbers for so many images at once: 4096 x 32 x 32 floats are 17 MB.
_CHUNK = 4096


@gin.configurable
def image_data(
    images: Images | Callable[[], Images] | str = gin.REQUIRED,
    classes: int = gin.REQUIRED,
    corruptions: Sequence[Callable] = (),
    outer: float = 0.05,
    validation: float = 0.05,
    max_images: int | None = None,
    seed: int = 0,
) -> Parts:
    """Train, outer, validation and test examples with the features `image` and `label`.

    Outer and validation are split off the published train images by a hash of their pixels; the
    published test images are the test part, and train images that occur among them are left out.
    Only the train part is corrupted.

    Args:
      images: the path of an .npz in the layout of keras.datasets, a TFDS name such as "mnist", or
        what `npz_images` or `tfds_images` returns.
      classes: labels are in 0 to classes - 1.
      corruptions: applied one after the other, such as [@pixel_noise(), @label_noise()].
      outer, validation: shares of the published train images.
      max_images: use so many of the published train images, and as many of the test images; None
        for all.
      seed: of the corruptions. What happens to an image does not depend on the split.

    Returns:
      Parts with `image` [N, H, W, C] as it was stored and `label` int32 [N]. Known for evaluation
      (`labels`): `level` float32, the fraction of pixels replaced, 1 for a wrong label; `damage`,
      the names of the corruptions or "clean"; `corrupted` and `mislabelled`, bool; `true_label`.

    Raises:
      ConfigurationError: shares or corruptions that are none.
      DataError: labels out of range, parts of different shapes, ids that repeat, an empty part.
    """
    if isinstance(images, (str, os.PathLike)):
        images = find_images(images)
    images = images() if callable(images) else images
    if not isinstance(images, Images):
        raise ConfigurationError(
            f"image_data.images is {images!r}: give it the path of an .npz file, a TFDS"
            " name, @npz_images() or @tfds_images()."
        )
    if outer < 0 or validation < 0 or outer + validation >= 1:
        raise ConfigurationError(
            f"image_data.outer ({outer}) and .validation ({validation}) are shares of the train"
            " images: at least 0 and together below 1."
        )
    train, test = (_first(table, max_images) for table in (images.train, images.test))
    _check(train, f"the train images of {images.name}", classes)
    _check(test, f"the test images of {images.name}", classes)
    clean, tested = (_example_set(table, images.name) for table in (train, test))
    check_alike({"train": clean, "test": tested}, images.name)
    keys = content_keys({"image": train.images})
    shares = {"train": 1 - outer - validation, "outer": outer, "validation": validation, "test": 0}
    rows = split_rows(keys, shares)
    held_out = set(content_keys({"image": test.images}))
    repeated = np.array([key in held_out for key in keys])
    if repeated.any():
        _logger.info("%d train images are test images too: left out", int(repeated.sum()))
    rows = {part: chosen[~repeated[chosen]] for part, chosen in rows.items()}
    features, known = _corrupt(train, classes, corruptions, seed)
    parts = {
        "train": _example_set(train, images.name, features, known).take(rows["train"], "train"),
        "outer": clean.take(rows["outer"], "outer"),
        "validation": clean.take(rows["validation"], "validation"),
        "test": dataclasses.replace(tested, name="test"),
    }
    for part, examples in parts.items():
        if not len(examples):
            raise DataError(
                f"{images.name} gives the part '{part}' no images: raise image_data.{part} or"
                " max_images."
            )
    return Parts.of(parts, disjoint=True)


def at_levels(
    examples: ExampleSet, levels: Sequence[float], size: int | None = None, seed: int = 0
) -> ExampleSet:
    """Images of a clean set with known fractions of their pixels replaced by noise.

    Args:
      examples: a set of images, such as the test part.
      levels: fractions in [0, 1]; each gets the same number of images, taken in turn.
      size: about so many images, evenly spread over the set; None takes all.
      seed: of the noise.

    Returns:
      The images with `labels["level"]`, the fraction really replaced, and `labels["asked"]`.
    """
    if not len(levels) or min(levels) < 0 or max(levels) > 1:
        raise ConfigurationError(f"levels are {levels}: give fractions from 0 to 1.")
    examples = examples.thinned(size)
    asked = np.resize(np.asarray(levels, np.float32), len(examples))
    noisy, level = replace_pixels(
        np.asarray(examples.features["image"]), asked, np.random.default_rng([seed, len(examples)])
    )
    damage = np.where(level > 0, "pixel_noise", "clean").astype(object)
    return dataclasses.replace(
        examples,
        features={**examples.features, "image": noisy},
        labels={"level": level, "asked": asked, "damage": damage},
        weights=None,
        name=f"{examples.name} at known levels",
    )


def _first(table: Table, count: int | None) -> Table:
    return table if count is None else Table(*(column[:count] for column in table))


def _check(table: Table, where: str, classes: int) -> None:
    check_unique(table.ids, where)
    bad = (table.labels < 0) | (table.labels >= classes)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{where}: {int(bad.sum())} of {len(bad)} labels are not in 0 to {classes - 1}, first"
            f" {int(table.labels[row])} of {table.ids[row]!r}: correct them, or set"
            " image_data.classes."
        )


def _corrupt(
    table: Table, classes: int, corruptions: Sequence[Callable], seed: int
) -> tuple[dict, dict]:
    """Features after all corruptions, and what is known about them, arrays by name."""
    images, labels = table.images, table.labels
    level = np.zeros(len(images), np.float32)
    kinds: list[list[str]] = [[] for _ in range(len(images))]
    corrupted = np.zeros(len(images), bool)
    for number, corruption in enumerate(corruptions):
        if not callable(corruption):
            raise ConfigurationError(
                f"image_data.corruptions has {corruption!r}: use @pixel_noise() or a function of"
                " (images, labels, classes, rng) that returns a Corruption."
            )
        before = labels
        images, labels, strength, touched = corruption(
            images, labels, classes, np.random.default_rng([seed, number])
        )
        level = np.maximum(level, np.where(labels != before, 1.0, strength))
        corrupted |= touched & (strength > 0)
        name = getattr(corruption, "name", getattr(corruption, "__name__", "corruption"))
        for row in np.flatnonzero(touched):
            kinds[row].append(name)
    return {"image": images, "label": labels}, {
        "level": level.astype(np.float32),
        "damage": objects("+".join(kind) or "clean" for kind in kinds),
        "corrupted": corrupted,
        "mislabelled": labels != table.labels,
        "true_label": table.labels,
    }


def _example_set(table: Table, name: str, features=None, labels=None) -> ExampleSet:
    features = features or {"image": table.images, "label": table.labels}
    names = objects([name] * len(table.ids))
    return ExampleSet(features, table.ids, names, names, labels or {}, render=_render, name=name)


def _render(row: dict[str, np.ndarray]) -> str:
    """A row of pixels does not read well: its label, and how bright it is."""
    return f"label {int(row['label'])}, mean pixel {float(np.mean(row['image'])):.3g}"


class Corruption(NamedTuple):
    """What a corruption made of N images.

    Attributes:
      images: like the originals.
      labels: int32 [N].
      level: float32 [N], fraction of pixels replaced; 0 for an untouched image.
      touched: bool [N], whether this kind of corruption has hit the image.
    """

    images: np.ndarray
    labels: np.ndarray
    level: np.ndarray
    touched: np.ndarray


def replace_pixels(
    images: np.ndarray, fraction: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Replaces each pixel (all its channels), by itself, with probability `fraction` by noise.

    Args:
      images: uint8 [N, H, W, C] in 0 to 255, or floats in 0 to 1.
      fraction: [N], in [0, 1].
      rng: source of the noise, uniform over the range of pixel values.

    Returns:
      (images' of the same dtype, the fraction really replaced, float32 [N]).
    """
    images = images.copy()
    replaced = np.zeros(len(images), np.float32)
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        shape = images[rows].shape
        mask = rng.random(shape[:3], np.float32) < fraction[rows, None, None]
        if images.dtype == np.uint8:
            noise = rng.integers(0, 256, shape, np.uint8)
        else:
            noise = rng.random(shape, np.float32).astype(images.dtype)
        images[rows] = np.where(mask[..., None], noise, images[rows])
        replaced[rows] = mask.mean(axis=(1, 2))
    return images, replaced


class _Kind:
    """A corruption that hits each image with a probability."""

    def __init__(self, probability: float):
        if not 0 <= probability <= 1:
            raise ConfigurationError(
                f"{type(self).__name__}.probability is {probability}: it must be in [0, 1]."
            )
        self.probability = probability
        self.name = type(self).__name__

    def _hit(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.random(count) < self.probability


@gin.configurable
class pixel_noise(_Kind):
    """Replaces a share of an image's pixels by uniform noise.

    Args:
      probability: that an image is corrupted.
      lowest, highest: the share of its pixels is uniform between them.
    """

    def __init__(self, probability: float = 0.5, lowest: float = 0.1, highest: float = 0.9):
        super().__init__(probability)
        if not 0 < lowest <= highest <= 1:
            raise ConfigurationError(
                f"pixel_noise needs 0 < lowest <= highest <= 1, not lowest {lowest} and highest"
                f" {highest}."
            )
        self.lowest, self.highest = lowest, highest

    def __call__(self, images, labels, classes, rng) -> Corruption:
        hit = self._hit(len(images), rng)
        fraction = np.where(hit, rng.uniform(self.lowest, self.highest, len(images)), 0.0)
        images, level = replace_pixels(images, fraction, rng)
        return Corruption(images, labels, level, hit)


@gin.configurable
class label_noise(_Kind):
    """Gives an image one of the other labels, each alike.

    The rater can only see it where it reads the label: give `image_rater` the number of classes.

    Args:
      probability: that a label is wrong.
    """

    def __init__(self, probability: float = 0.2):
        super().__init__(probability)

    def __call__(self, images, labels, classes, rng) -> Corruption:
        hit = self._hit(len(images), rng)
        shift = rng.integers(1, max(classes, 2), len(labels))
        wrong = ((labels + shift) % classes).astype(labels.dtype)
        return Corruption(
            images, np.where(hit, wrong, labels), np.zeros(len(images), np.float32), hit
        )
