"""Images from .npz files and TFDS, and what is wrong with other files."""

from pathlib import Path

import numpy as np
import pytest

from dr_keras.data.images.sources import find_images, npz_images, tfds_images
from dr_keras.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets")


def arrays(rng=None, **changes):
    rng = rng or np.random.default_rng(0)
    made = {
        "x_train": rng.integers(0, 256, (30, 6, 5), np.uint8),
        "y_train": rng.integers(0, 4, 30).astype(np.uint8),
        "x_test": rng.integers(0, 256, (10, 6, 5), np.uint8),
        "y_test": rng.integers(0, 4, 10).astype(np.uint8),
    }
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def saved(folder, **changes):
    path = folder / "toy.npz"
    np.savez_compressed(path, **arrays(**changes))
    return str(path)


def test_an_npz_file_as_keras_has_it(tmp_path):
    found = find_images(saved(tmp_path))
    expected = arrays()
    assert found.name == "toy"
    assert np.array_equal(found.train.images, expected["x_train"][..., None])
    assert np.array_equal(found.test.labels, expected["y_test"])
    assert found.train.labels.dtype == np.int32
    assert found.train.ids[7] == "train-7" and found.test.ids[0] == "test-0"


def test_columns_of_labels_and_colours_as_cifar_has_them(tmp_path):
    rng = np.random.default_rng(1)
    colours = {f"x_{p}": rng.integers(0, 256, (n, 4, 4, 3), np.uint8)
               for p, n in (("train", 30), ("test", 10))}  # fmt: skip
    found = npz_images(saved(tmp_path, y_train=arrays()["y_train"][:, None], **colours))
    assert found.train.images.shape == (30, 4, 4, 3) and found.train.labels.shape == (30,)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"y_test": None}, r"has no array 'y_test', only \['x_test', 'x_train', 'y_train'\]"),
        ({"x_train": np.zeros((30, 6))}, r"images have shape \(30, 6\); they must be \[N, height"),
        ({"x_test": np.zeros((10, 6, 5), np.int64)}, "x_test and y_test: the images are int64; "),
        ({"x_train": np.full((30, 6, 5), 255.0)}, "floats from 255 to 255; floats must be in 0 to"),
        ({"x_train": np.full((30, 6, 5), np.nan)}, "floats from nan to nan"),
        ({"y_train": np.eye(30)}, r"labels are float64 of shape \(30, 30\); .*not one-hot"),
        ({"y_train": np.zeros(29, np.uint8)}, "there are 30 images but 29 labels"),
    ],
)
def test_arrays_of_the_wrong_kind(changes, message, tmp_path):
    with pytest.raises(DataError, match=message):
        npz_images(saved(tmp_path, **changes))


def test_files_that_are_no_npz(tmp_path):
    with pytest.raises(DataError, match="there is no file .*gone.npz"):
        npz_images(str(tmp_path / "gone.npz"))
    whole = Path(saved(tmp_path)).read_bytes()
    np.save(tmp_path / "one.npy", np.zeros(3))
    for number, content in enumerate(
        [b"", b"text", whole[: len(whole) // 2], (tmp_path / "one.npy").read_bytes(),
         whole[:200] + b"\0" * 40 + whole[240:]]
    ):  # fmt: skip
        path = tmp_path / f"bad{number}.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"bad{number}.npz is no .npz file, or a damaged one"):
            npz_images(str(path))


class ToyDigits(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    __module__ = "toy_digits"  # TFDS looks for the checksums of builders that are in a package

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(6, 5, 1)),
            "label": tfds.features.ClassLabel(num_classes=4),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, download_manager):
        return {part: self._generate_examples(part) for part in ("train", "test")}

    def _generate_examples(self, part):
        made = arrays()
        for row, (image, label) in enumerate(zip(made[f"x_{part}"], made[f"y_{part}"])):
            yield row, {"image": image[..., None], "label": int(label)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    ToyDigits(data_dir=str(folder)).download_and_prepare()
    return str(folder)


def test_tfds_gives_the_same_images(data_dir):
    found = tfds_images("toy_digits", data_dir)
    expected = {(i.tobytes(), int(n)) for i, n in zip(arrays()["x_train"], arrays()["y_train"])}
    train = zip(found.train.images, found.train.labels)
    assert {(image.tobytes(), int(label)) for image, label in train} == expected
    assert len(set(found.train.ids)) == 30 and len(found.test.ids) == 10
    assert find_images(f"{data_dir}/toy_digits/1.0.0").name == "toy_digits"


def test_tfds_says_what_is_missing(data_dir, tmp_path):
    with pytest.raises(DataError, match="no TFDS data set is called 'toy_digitz'"):
        tfds_images("toy_digitz", data_dir)
    with pytest.raises(DataError, match="is not prepared in .*tfds_images.download = True"):
        tfds_images("mnist", str(tmp_path))
    with pytest.raises(DataError, match="has no split 'dev'; its splits: test, train"):
        tfds_images("toy_digits", data_dir, test_split="dev")
    with pytest.raises(DataError, match=r"has no feature 'digit'; it has \['image', 'label'\]"):
        tfds_images("toy_digits", data_dir, label_feature="digit")
