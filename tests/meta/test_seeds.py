"""Seeds addressed by name, and Keras initialisers that follow them."""

import random
import subprocess
import sys

import keras
import numpy as np
import pytest

from dr_keras.meta.seeds import derive_seed, seeded


def test_seeds_are_distinct_and_in_range():
    names = [
        (),
        ("a",),
        ("b",),
        ("a", 1),
        ("a", "1", ""),
        ("a", 2),
        ("a1",),
        ("member", 0, 1),
        ("member", 1, 0),
        ("member", 10),
        ("member", 1, 0, 0),
    ]
    seeds = [derive_seed(seed, *name) for seed in (0, 1, 10) for name in names]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_seed_is_the_same_in_every_process():
    """Python's hash() of strings is not."""
    code = "from dr_keras.meta.seeds import derive_seed; print(derive_seed(7, 'inner', 3))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": value, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for value in ("1", "2")
    }
    assert outputs == {f"{derive_seed(7, 'inner', 3)}\n"}
    assert derive_seed(7, "inner", 3) == 1902846866  # fixed for all time: runs resume on it


def test_initialisers_draw_from_the_seed():
    def kernel(seed):
        with seeded(seed):
            layer = keras.layers.Dense(3)
            layer.build((None, 4))
        return layer.kernel.numpy()

    np.testing.assert_array_equal(kernel(1), kernel(1))
    assert np.abs(kernel(1) - kernel(2)).max() > 1e-3


def test_states_are_put_back_even_after_an_error():
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    with pytest.raises(RuntimeError, match="inside"), seeded(99):
        random.random()
        np.random.random()
        raise RuntimeError("inside")
    assert (random.random(), np.random.random()) == expected
