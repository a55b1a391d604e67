"""Sets of labelled images: NumPy archives in the layout of keras.datasets, and TFDS."""

import dataclasses
import os
from typing import NamedTuple
import zipfile
import zlib

import numpy as np
import tensorflow as tf

from dr_keras.data.corpora import tfds
from dr_keras.data.examples import objects
from dr_keras.errors import DataError
import gin

# What numpy raises for files of another kind, and zipfile and zlib for damaged ones. A single
# array in an .npy file has no context to enter.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
    zlib.error,
    tf.errors.OpError,
)
_KEYS = ("x_train", "y_train", "x_test", "y_test")


class Table(NamedTuple):
    """Images [N, H, W, C], labels int32 [N], ids object [N]."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Labelled images as they were published, in two parts.

    Attributes:
      name: of the set.
      train: becomes the train, outer and validation parts.
      test: the published test images.
    """

    name: str
    train: Table
    test: Table


def find_images(name: str | os.PathLike) -> Images:
    """`npz_images` of a path that ends in .npz, `tfds_images` of any other name."""
    return npz_images(name) if os.fspath(name).endswith(".npz") else tfds_images(os.fspath(name))


@gin.configurable
def npz_images(path: str = gin.REQUIRED, name: str | None = None) -> Images:
    """Images from an .npz file in the layout of keras.datasets.

    Args:
      path: holds `x_train` and `x_test`, uint8 [N, H, W] or [N, H, W, C] in 0 to 255 or floats in
        0 to 1, and `y_train` and `y_test`, whole numbers [N] or [N, 1].
      name: of the set; None takes the file's.

    Raises:
      DataError: no such file, no such arrays, or arrays of the wrong shape or type.
    """
    path = os.fspath(path)
    name = name or os.path.splitext(os.path.basename(path))[0]
    try:
        with tf.io.gfile.GFile(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [key for key in _KEYS if key not in archive]
            if missing:
                raise DataError(
                    f"{path} has no array {missing[0]!r}, only {sorted(archive)}: the layout of"
                    f" keras.datasets has {', '.join(_KEYS)}."
                )
            arrays = {key: archive[key] for key in _KEYS}
    except tf.errors.NotFoundError as error:
        raise DataError(f"there is no file {path}: name an .npz of images.") from error
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path} is no .npz file, or a damaged one.") from error
    parts = {
        part: table(
            arrays[f"x_{part}"], arrays[f"y_{part}"], f"{path}, x_{part} and y_{part}", part
        )
        for part in ("train", "test")
    }
    return Images(name, **parts)


@gin.configurable
def tfds_images(
    name: str = "mnist",
    data_dir: str | None = None,
    download: bool = False,
    train_split: str = "train",
    test_split: str = "test",
    image_feature: str = "image",
    label_feature: str = "label",
) -> Images:
    """Images from TensorFlow Datasets, such as "mnist", "fashion_mnist" or "cifar10".

    Args:
      name: of the data set, or the directory of a prepared one.
      data_dir: where prepared data sets are; None for TFDS' own default.
      download: whether to download and prepare the data set if it is not there.
      train_split, test_split: e.g. "train" or "train[:10%]".
      image_feature, label_feature: names of the features.

    Raises:
      DataError: there is no such data set, split or feature, or it is not prepared.
    """
    builder = tfds.find_builder(name, data_dir)
    splits = {"train": train_split, "test": test_split}
    tfds.check_prepared("tfds_images", builder, builder.name, splits.values(), download)
    parts = {
        part: _read_split(builder, split, image_feature, label_feature, part)
        for part, split in splits.items()
    }
    return Images(builder.name, **parts)


def _read_split(builder, split, image_feature, label_feature, part) -> Table:
    where = f"TFDS data set {builder.name!r}, split {split!r}"
    for feature in (image_feature, label_feature):
        if feature not in builder.info.features:
            raise DataError(
                f"{where} has no feature {feature!r}; it has {sorted(builder.info.features)}"
            )
    images, labels, ids = [], [], []
    for example in tfds.read_examples("tfds_images", builder, builder.name, split, id=True):
        images.append(example[image_feature])
        labels.append(example[label_feature])
        ids.append(example["tfds_id"].decode())
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise DataError(
            f"{where} has images of {len(shapes)} shapes, such as {sorted(shapes)[:3]}: resize them"
            " to one (dataset_data takes a tf.data.Dataset of your own)."
        )
    return table(np.stack(images), np.asarray(labels), where, part, objects(ids))


def table(
    images: np.ndarray, labels: np.ndarray, where: str, prefix: str, ids: np.ndarray | None = None
) -> Table:
    """Checked images and labels; without `ids` they are `<prefix>-<row>`, rows from 0.

    Raises:
      DataError: wrong shape, type or range; names the place and says what is expected.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise DataError(
            f"{where}: the images have shape {images.shape}; they must be [N, height, width] or"
            " [N, height, width, channels]."
        )
    if np.issubdtype(images.dtype, np.floating):
        images = images.astype(np.float32, copy=False)
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"{where}: the images are floats from {low:g} to {high:g}; floats must be in 0 to"
                " 1. Divide by 255, or store uint8."
            )
    elif images.dtype != np.uint8:
        raise DataError(
            f"{where}: the images are {images.dtype}; they must be uint8 in 0 to 255 or floats in"
            " 0 to 1."
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{where}: the labels are {labels.dtype} of shape {labels.shape}; they must be whole"
            " numbers, one an image (class numbers, not one-hot rows)."
        )
    if len(labels) != len(images):
        raise DataError(f"{where}: there are {len(images)} images but {len(labels)} labels.")
    if ids is None:
        ids = objects(f"{prefix}-{row}" for row in range(len(images)))
    return Table(images, labels.astype(np.int32), ids)
