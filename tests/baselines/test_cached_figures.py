"""Files of figures are read as figures: what would run code is passed over or refused."""

import io
import os

import numpy as np
import pytest

from dr_keras.baselines.scores import Scores, cached
from dr_keras.data.images.sources import npz_images
from dr_keras.errors import CheckpointError, DataError
from dr_keras.studies.rater import read_scores


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def pickled(mark, names, bare=False):
    """An .npz file whose arrays, or a .npy file whose only one, are pickled."""
    trap = np.empty(1, object)
    trap[0] = Trap(mark)
    file = io.BytesIO()
    if bare:
        np.save(file, trap)
    else:
        np.savez(file, **dict.fromkeys(names, trap))
    return file.getvalue()


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "unpickled"


def test_the_trap_works(mark):
    np.load(io.BytesIO(pickled(mark, ["values"])), allow_pickle=True)["values"]
    assert mark.exists()


@pytest.mark.parametrize("bare", [False, True])
def test_a_pickle_in_the_cache_of_baselines_is_worked_out_anew(tmp_path, mark, bare):
    key, calls = ("of", "these"), []

    def work():
        calls.append(1)
        return Scores(np.array([1.0, 2.0]), 3.0, 4.0, {"folds": 2})

    def found():
        scores = cached(tmp_path / "cache", "perplexity", key, work)
        return [*scores.values, scores.training_flops, scores.forward_flops, *scores.facts]

    assert found() == found() == [1.0, 2.0, 3.0, 4.0, "folds"] and len(calls) == 1
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(pickled(mark, ["values"], bare))
    assert found() == [1.0, 2.0, 3.0, 4.0, "folds"] and len(calls) == 2 and not mark.exists()
    assert found() == [1.0, 2.0, 3.0, 4.0, "folds"] and len(calls) == 2  # it was put right


def test_a_pickle_among_the_scores_of_a_study_is_refused(tmp_path, mark):
    (tmp_path / "scores.npz").write_bytes(pickled(mark, ["ids", "scores"]))
    with pytest.raises(CheckpointError, match="scores.npz cannot be read"):
        read_scores(tmp_path)
    assert not mark.exists()


def test_a_pickle_among_images_is_refused(tmp_path, mark):
    path = tmp_path / "images.npz"
    path.write_bytes(pickled(mark, ["x_train", "y_train", "x_test", "y_test"]))
    with pytest.raises(DataError, match="images.npz is no .npz file, or a damaged one"):
        npz_images(str(path))
    assert not mark.exists()
