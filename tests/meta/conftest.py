"""Harness of the meta tests: toy problems in float64, central differences, tiny trainers.

A test asks for the fixtures `toy_problem` and `assert_matches_central_differences`; see
test_estimators.py, where an estimator is one entry in a list.
"""

from collections.abc import Callable
import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.meta.combinations import worst
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.optimizers import OuterAdam, adam, sgd
from dr_keras.meta.population import initial_values
from dr_keras.meta.problem import InnerState, MetaProblem, inner_update
from dr_keras.meta.seeds import seeded
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.meta.weighting import token_softmax
from dr_keras.models.losses import classification_loss, next_token_loss, squared_error, token_loss
from dr_keras.models.text_models import language_model, text_rater

VOCABULARY, LENGTH = 9, 6


# ------------------------------------------------------------------------------------- float64


# -------------------------------------------------------------------------------- toy problems


@dataclasses.dataclass
class ToyProblem:
    """Everything that an estimator is called with, and a way to the same loss without it."""

    problem: MetaProblem
    state: InnerState
    eta: list
    inner_batches: dict
    outer_batches: dict

    def estimate(self, estimator: Callable):
        """What `estimator` returns for this problem."""
        return estimator(self.problem, self.state, self.eta, self.inner_batches, self.outer_batches)

    def outer_loss(self, eta: list) -> tf.Tensor:
        """Outer loss after the unroll, by plain updates one after the other: no estimator."""
        state = self.state
        for index in range(next(iter(self.inner_batches.values())).shape[0]):
            batch = {name: value[index] for name, value in self.inner_batches.items()}
            weights, _ = self.problem.weigh(eta, state, batch)
            state, _ = inner_update(self.problem, state, weights, batch)
        return self.problem.outer_loss(state.theta, state.statistics, self.outer_batches)


def _slots_after(optimizer, theta: list, rng) -> dict:
    """Slots as a member in the middle of its life has them: not zero, squares positive."""
    slots = optimizer.init(theta)

    def draw(name, shape):
        values = 0.05 * rng.normal(size=shape)
        return tf.constant(values**2 + 1e-3 if name == "v" else values, tf.float64)

    return {name: [draw(name, leaf.shape) for leaf in leaves] for name, leaves in slots.items()}


def _keras_toy(rater, model, loss, optimizer, inner_batches, outer_batch, age, rng, **options):
    with seeded(7):
        rater, structure = rater(), model()
    eta = [
        tf.constant(rng.normal(scale=0.3, size=v.shape)) for v in rater.trainable_variables
    ]  # a rater that starts at zero would have gradients in its last layer only
    theta, others = initial_values(model, 5)
    problem = KerasProblem(rater, structure, loss, optimizer, **options)
    statistics = problem.parts.statistics(others)
    theta = [leaf + 0.1 * rng.normal(size=leaf.shape) for leaf in theta]
    slots = _slots_after(optimizer, theta, rng) if age else optimizer.init(theta)
    return ToyProblem(
        problem(),
        InnerState(theta, statistics, slots, tf.constant(age, tf.int32)),
        eta,
        {name: tf.constant(value) for name, value in inner_batches.items()},
        {"outer": {name: tf.constant(value) for name, value in outer_batch.items()}},
    )


def _two_parameters(optimizer, unroll_length, age, rng):
    """theta is one number, eta the scores of two examples: worked out by hand in the test."""
    centres = rng.normal(size=(unroll_length, 2))

    def score(eta, batch):
        return eta[0] * tf.ones_like(batch["centre"])

    def inner_loss(theta, statistics, batch):
        return tf.square(theta[0] - batch["centre"]) / 2, statistics

    def objective(name, theta, statistics, batch):
        return tf.square(theta[0] - batch["centre"]) / 2

    theta = [tf.constant(rng.normal(), tf.float64)]
    slots = _slots_after(optimizer, theta, rng) if age else optimizer.init(theta)
    return ToyProblem(
        MetaProblem(score, inner_loss, objective, optimizer),
        InnerState(theta, [], slots, tf.constant(age, tf.int32)),
        [tf.constant(rng.normal(size=2))],
        {"centre": tf.constant(centres)},
        {"outer": {"centre": tf.constant(rng.normal(), tf.float64)}},
    )


def _mlp(optimizer, unroll_length, age, rng, dropout=0.0):
    """Regression; the rater sees the target too."""

    def rater():
        x, y = keras.Input((3,), name="x"), keras.Input((1,), name="target")
        hidden = keras.layers.Concatenate()([x, y])
        hidden = keras.layers.Dense(4, activation="tanh")(hidden)
        return keras.Model({"x": x, "target": y}, keras.layers.Dense(1)(hidden))

    def model():
        x = keras.Input((3,), name="x")
        hidden = keras.layers.Dense(5, activation="tanh")(x)
        hidden = keras.layers.Dropout(dropout)(hidden) if dropout else hidden
        return keras.Model({"x": x}, keras.layers.Dense(1)(hidden))

    def batch(*shape):
        return {"x": rng.normal(size=(*shape, 3)), "target": rng.normal(size=(*shape, 1))}

    return _keras_toy(
        rater, model, squared_error, optimizer, batch(unroll_length, 6), batch(4), age, rng
    )


def _mlp_with_dropout(optimizer, unroll_length, age, rng):
    return _mlp(optimizer, unroll_length, age, rng, dropout=0.3)


def _conv_net(optimizer, unroll_length, age, rng):
    """Images of 6 x 6 in three classes."""

    def rater():
        image = keras.Input((6, 6, 1), name="image")
        hidden = keras.layers.Conv2D(2, 3, activation="tanh")(image)
        return keras.Model({"image": image}, keras.layers.Dense(1)(keras.layers.Flatten()(hidden)))

    def model():
        image = keras.Input((6, 6, 1), name="image")
        hidden = keras.layers.Conv2D(3, 3, strides=2, activation="silu")(image)
        hidden = keras.layers.GlobalAveragePooling2D()(hidden)
        return keras.Model({"image": image}, keras.layers.Dense(3)(hidden))

    def batch(*shape):
        return {
            "image": rng.normal(size=(*shape, 6, 6, 1)),
            "label": rng.integers(0, 3, shape).astype(np.int32),
        }

    return _keras_toy(
        rater, model, classification_loss, optimizer, batch(unroll_length, 4), batch(4), age, rng
    )


def _normalised(optimizer, unroll_length, age, rng):
    """Batch statistics move with theta, and the outer loss reads the moving ones."""

    def rater():
        x, y = keras.Input((3,), name="x"), keras.Input((1,), name="target")
        hidden = keras.layers.Concatenate()([x, y])
        return keras.Model({"x": x, "target": y}, keras.layers.Dense(1)(hidden))

    def model():
        x = keras.Input((3,), name="x")
        hidden = keras.layers.Dense(4)(x)
        hidden = keras.layers.BatchNormalization(momentum=0.5)(hidden)
        hidden = keras.layers.Activation("tanh")(hidden)
        return keras.Model({"x": x}, keras.layers.Dense(1)(hidden))

    def batch(*shape):
        return {"x": rng.normal(size=(*shape, 3)), "target": rng.normal(size=(*shape, 1))}

    return _keras_toy(
        rater, model, squared_error, optimizer, batch(unroll_length, 5), batch(4), age, rng
    )


def random_tokens(rng, *shape: int) -> np.ndarray:
    """Rows of random tokens, padded at the end to different lengths."""
    tokens = rng.integers(1, VOCABULARY, (*shape, LENGTH))
    lengths = rng.integers(2, LENGTH + 1, (*shape, 1))
    return np.where(np.arange(LENGTH) < lengths, tokens, 0).astype(np.int32)


def _language_model(optimizer, unroll_length, age, rng, rows=3, layer_count=1, **options):
    """The text rater and the language model of dr_keras.models, padded rows among the batch."""
    return _keras_toy(
        lambda: text_rater(VOCABULARY, LENGTH, width=4, layer_count=1, heads=1),
        lambda: language_model(
            VOCABULARY, LENGTH, width=4, layer_count=layer_count, heads=2, **options
        ),
        functools.partial(next_token_loss, chunk=7),
        optimizer,
        {"tokens": random_tokens(rng, unroll_length, rows)},
        {"tokens": random_tokens(rng, rows)},
        age,
        rng,
    )


def _of_text(model, optimizer, unroll_length, age, rng):
    """A language model, `(vocabulary, length) -> model`, and a text rater."""
    return _keras_toy(
        lambda: text_rater(VOCABULARY, LENGTH, width=4, layer_count=1, heads=1),
        lambda: model(VOCABULARY, LENGTH),
        next_token_loss,
        optimizer,
        {"tokens": random_tokens(rng, unroll_length, 3)},
        {"tokens": random_tokens(rng, 3)},
        age,
        rng,
    )


def _deep_language_model(optimizer, unroll_length, age, rng, **options):
    """Two blocks; four rows, so that batches can be split."""
    return _language_model(optimizer, unroll_length, age, rng, 4, 2, **options)


def _recomputed_language_model(optimizer, unroll_length, age, rng):
    """`_deep_language_model`, its blocks and logits made again in every derivative."""
    return _deep_language_model(
        optimizer, unroll_length, age, rng, recompute_blocks=True, chunked_logits=True
    )


@dataclasses.dataclass
class Opened:
    """What the opened core leaves open; `toy_problem(Opened(...))` is a bigram language model.

    Attributes:
      by_token: weigh tokens instead of windows.
      features: of the member's state that the rater reads.
      lora: the inner model's base is frozen, low-rank updates are trained.
      sets: held-out sets, the worst of which counts (softly) where there are several.
      rows: windows in a batch.
      options: further arguments of KerasProblem.
    """

    by_token: bool = False
    features: tuple = ()
    lora: bool = False
    sets: int = 1
    rows: int = 4
    options: dict = dataclasses.field(default_factory=dict)

    def model(self) -> keras.Model:
        tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
        base = dict(trainable=not self.lora)

        def dense(size, inputs):
            outputs = keras.layers.Dense(size, **base)(inputs)
            if not self.lora:
                return outputs
            # As enable_lora adds, whose weights are float32 whatever the policy.
            low = keras.layers.Dense(1, use_bias=False)(inputs)
            return outputs + keras.layers.Dense(size, use_bias=False)(low)

        hidden = keras.ops.tanh(dense(3, keras.layers.Embedding(VOCABULARY, 2, **base)(tokens)))
        return keras.Model({"tokens": tokens}, dense(VOCABULARY, hidden))

    def rater(self) -> keras.Model:
        shapes = {"inner_loss": (LENGTH,) * self.by_token, "age": ()}
        shapes["reference_loss"] = shapes["inner_loss"]
        tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
        hidden = keras.layers.Embedding(VOCABULARY, 2)(tokens)
        if not self.by_token:
            hidden = keras.ops.mean(hidden, axis=1)
        inputs, columns = {"tokens": tokens}, [hidden]
        for name in self.features:
            inputs[name] = keras.Input(shapes[name], name=name)
            column = keras.ops.expand_dims(inputs[name], -1)
            if self.by_token and name == "age":
                column = keras.ops.repeat(keras.ops.expand_dims(column, 1), LENGTH, axis=1)
            columns.append(column)
        joined = keras.layers.Concatenate()(columns) if self.features else hidden
        hidden = keras.layers.Dense(2, activation="tanh")(joined)
        return keras.Model(inputs, keras.ops.squeeze(keras.layers.Dense(1)(hidden), -1))

    def __call__(self, optimizer, unroll_length, age, rng) -> ToyProblem:
        with seeded(11):
            reference = self.model() if "reference_loss" in self.features else None
        options = {"reference": reference, **self.options}
        if self.by_token:
            options.setdefault("weighting", token_softmax())
        if self.sets > 1:
            options.setdefault("combination", worst(temperature=0.5))
        toy = _keras_toy(
            self.rater, self.model, token_loss if self.by_token else next_token_loss, optimizer,
            {"tokens": random_tokens(rng, unroll_length, self.rows)},
            {"tokens": random_tokens(rng, self.rows)}, age, rng, **options,
        )  # fmt: skip
        for number in range(1, self.sets):
            toy.outer_batches[f"set_{number}"] = {
                "tokens": tf.constant(random_tokens(rng, self.rows))
            }
        return toy


TOYS = {
    "two_parameters": _two_parameters,
    "mlp": _mlp,
    "mlp_with_dropout": _mlp_with_dropout,
    "normalised": _normalised,
    "conv_net": _conv_net,
    "language_model": _language_model,
    "deep_language_model": _deep_language_model,
    "recomputed_language_model": _recomputed_language_model,
}


@pytest.fixture
def toy_problem(float64):
    """`toy_problem(name, optimizer, unroll_length, age=0, seed=0)` builds a ToyProblem.

    Of the name of a toy, of what the opened core leaves open (`toy_problem.opened`), or of a
    language model (`toy_problem.of_text`).
    """

    def build(name, optimizer=None, unroll_length: int = 2, age: int = 0, seed: int = 0):
        make = name if callable(name) else TOYS[name]
        return make(
            optimizer or sgd(learning_rate=0.1), unroll_length, age, np.random.default_rng(seed)
        )

    build.opened = Opened
    build.of_text = lambda model: functools.partial(_of_text, model)

    return build


# --------------------------------------------------------------------------- central differences


def _derivatives(toy: ToyProblem, flat: np.ndarray, directions: int = 6):
    """(ways [K, N], derivative of the outer loss along each [K]) by central differences.

    All coordinates of eta, or as many random directions and `flat` itself where eta is large.
    """
    start = np.concatenate([np.ravel(leaf) for leaf in toy.eta])

    @tf.function
    def loss(vector):
        eta, offset = [], 0
        for leaf in toy.eta:
            size = leaf.shape.num_elements()
            eta.append(tf.reshape(vector[offset : offset + size], leaf.shape))
            offset += size
        return toy.outer_loss(eta)

    if start.size <= 40:
        ways = np.eye(start.size)
    else:
        ways = np.random.default_rng(1).normal(size=(directions, start.size))
        ways[0] = flat
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)

    def derivative(way):
        # Fourth order, so that the step can be long enough to rise above rounding.
        step = 3e-4
        values = [float(loss(start + k * step * way)) for k in (-2, -1, 1, 2)]
        return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)

    return ways, np.array([derivative(way) for way in ways])


@pytest.fixture
def assert_matches_central_differences():
    """`(toy, gradient, name="", tolerance=1e-5)`: directional derivatives agree.

    The error is relative to the length of the vector of derivatives, which is measured once for a
    toy, at the first gradient that is compared with it.
    """
    measured = {}

    def check(toy: ToyProblem, gradient: list, name: str = "", tolerance: float = 1e-5):
        flat = np.concatenate([np.ravel(leaf) for leaf in gradient])
        assert np.linalg.norm(flat) > 1e-7, "the toy's meta-gradient is too small to say anything"
        if id(toy) not in measured:
            measured[id(toy)] = (*_derivatives(toy, flat), toy)  # the toy, so that its id stays
        ways, found, _ = measured[id(toy)]
        error = np.linalg.norm(found - ways @ flat) / np.linalg.norm(found)
        assert error < tolerance, (
            f"{name}: relative error {error:.2e}, |g| {np.linalg.norm(flat):.2e}"
        )

    return check


# ---------------------------------------------------------------------------------- tiny trainers


@pytest.fixture
def example_set():
    """`example_set(features, name)`: an ExampleSet of bare arrays."""

    def build(features: dict, name: str = "examples", sources=None, render=None) -> ExampleSet:
        count = len(next(iter(features.values())))
        ids = np.array([f"{name}-{row}" for row in range(count)], object)
        sources = np.array(["a"] * count if sources is None else sources, object)
        return ExampleSet(features, ids, sources, sources, render=render, name=name)

    return build


@pytest.fixture
def regression_sets(example_set):
    """Train and outer sets of a noisy linear regression, float32; the first half of train lies."""
    rng = np.random.default_rng(0)

    def build(count, lying):
        x = rng.normal(size=(count, 3)).astype(np.float32)
        target = x @ np.array([[1.0], [-2.0], [0.5]], np.float32)
        target[:lying] += 4
        return {"x": x, "target": target}

    return example_set(build(40, 20), "train"), example_set(build(24, 0), "outer")


@pytest.fixture
def text_sets(example_set):
    """Train and outer sets of random tokens."""
    rng = np.random.default_rng(0)
    return (
        example_set({"tokens": random_tokens(rng, 20)}, "train"),
        example_set({"tokens": random_tokens(rng, 12)}, "outer"),
    )


def regression_rater() -> keras.Model:
    x, y = keras.Input((3,), name="x"), keras.Input((1,), name="target")
    hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Concatenate()([x, y]))
    return keras.Model({"x": x, "target": y}, keras.layers.Dense(1)(hidden), name="rater")


def regression_model() -> keras.Model:
    x = keras.Input((3,), name="x")
    return keras.Model({"x": x}, keras.layers.Dense(1)(x), name="linear")


@pytest.fixture
def regression_trainer():
    """`regression_trainer(**arguments)`: a MetaTrainer that traces in a second."""

    def build(**arguments) -> MetaTrainer:
        with seeded(arguments.pop("rater_seed", 1)):
            rater = arguments.pop("rater", regression_rater)()
        settings = dict(
            inner_model=regression_model,
            per_example_loss=squared_error,
            inner_optimizer=sgd(learning_rate=0.1),
            outer_optimizer=OuterAdam(learning_rate=0.01, warmup=2, clip_norm=1.0),
            unroll_length=2,
            population_size=2,
            lifetime=8,
            inner_batch_size=8,
            outer_batch_size=8,
            jit_compile=False,
        )
        return MetaTrainer(rater, **(settings | arguments))

    return build


@pytest.fixture
def text_trainer():
    """`text_trainer(dropout=0, **arguments)`: a MetaTrainer of a tiny rater and language model."""

    def build(dropout: float = 0.0, **arguments) -> MetaTrainer:
        with seeded(arguments.pop("rater_seed", 1)):
            rater = arguments.pop(
                "rater", lambda: text_rater(VOCABULARY, LENGTH, width=4, layer_count=1, heads=1)
            )()
        settings = dict(
            inner_model=lambda: language_model(
                VOCABULARY, LENGTH, width=4, layer_count=1, heads=1, dropout=dropout
            ),
            per_example_loss=next_token_loss,
            inner_optimizer=adam(learning_rate=0.01),
            outer_optimizer=OuterAdam(learning_rate=0.01, warmup=2, clip_norm=1.0),
            unroll_length=2,
            population_size=2,
            lifetime=8,
            inner_batch_size=4,
            outer_batch_size=4,
            jit_compile=False,
        )
        return MetaTrainer(rater, **(settings | arguments))

    return build
