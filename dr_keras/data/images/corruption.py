"""Corruption of images with a known level: noise in place of pixels, wrong labels.

The study of the paper's appendix (a rater that finds corrupted MNIST images) needs damage whose
level is known, so that scores can be held against it. A kind of corruption is a gin-configurable
callable `(images, labels, classes, rng) -> Corruption`; pure, as all randomness is `rng`'s.
"""

from typing import NamedTuple

import numpy as np

from dr_keras.errors import ConfigurationError
import gin

# Random numbers for so many images at once: 4096 x 32 x 32 floats are 17 MB.
_CHUNK = 4096


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
