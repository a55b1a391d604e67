"""Bindings of gin files that do not fit: refused before any work, with how to write them right."""

from collections.abc import Callable, Sequence
import os
import sys
from typing import Literal, Protocol

import pytest

from dr_keras.config import configuration
from dr_keras.errors import ConfigurationError
import gin

configuration.import_configurables()


class Engine(Protocol):
    def __call__(self, speed: float) -> float: ...


class Wheel:
    pass


@gin.configurable(module="test_bound_values")
def round_wheel(spokes: int = 8) -> Wheel:
    return Wheel()


@gin.configurable(module="test_bound_values")
class SteamEngine:
    def __call__(self, speed):
        return speed


@gin.configurable(module="test_bound_values")
def unannotated(thing=None):
    return thing


@gin.configurable(module="test_bound_values")
def car(
    wheel: Wheel | None = None,
    build_wheel: Callable[[], Wheel] = round_wheel,
    engine: Engine | None = None,
    seats: int = None,
    weight: float = 1.0,
    tank_bytes: int | None = None,
    log: str | os.PathLike = "log",
    names: Sequence[str] = (),
    colour: Literal["red", "blue"] = "red",
    title: str = "car",
    **options: int,
):
    return dict(
        wheel=wheel, seats=seats, weight=weight, tank_bytes=tank_bytes, names=names, **options
    )


gin.constant("test_bound_values.SIX", 6)
gin.constant("test_bound_values.TEXT", "six")


def refusal(*bindings, gin_files=()):
    with pytest.raises(ConfigurationError) as caught:
        configuration.parse(gin_files, bindings)
    return str(caught.value)


@pytest.mark.parametrize(
    "binding, message",
    [
        (
            "SEED = 'a'",
            "SEED = 'a' is text, but must be a whole number in experiment.seed, MetaTrainer.seed,"
            " MetaEvaluation.seed. Write for example 64.",
        ),
        (
            "SEQUENCE_LENGTH = 64.5",
            "SEQUENCE_LENGTH = 64.5 is a fraction, but must be a whole number in"
            " language_model.sequence_length, text_rater.sequence_length,"
            " text_data.sequence_length, prepare_corpus.sequence_length,"
            " prepared_data.sequence_length. Write for example 64.",
        ),
        (
            "META_STEPS = '300'",
            "META_STEPS = '300' is text, but must be a whole number in meta_train.meta_steps,"
            " outer/cosine_rate.decay_steps. Write 300 without quotes.",
        ),
        (
            "MetaTrainer.inner_optimizer = @adam",
            "MetaTrainer.inner_optimizer = @adam is the function itself, but must be"
            " InnerOptimizer (@name(), with brackets) or None. Its brackets are missing: @adam().",
        ),
        (
            "MetaTrainer.inner_optimizer = 'adam'",
            "MetaTrainer.inner_optimizer = 'adam' is text, but must be InnerOptimizer (@name(),"
            " with brackets) or None. Write @adam().",
        ),
        (
            "MetaTrainer.inner_optimizer = 'rmsprop'",
            "MetaTrainer.inner_optimizer = 'rmsprop' is text, but must be InnerOptimizer"
            " (@name(), with brackets) or None. Write for example @adam(), @adamw(), @momentum(),"
            " @sgd().",
        ),
        (
            "MetaTrainer.inner_optimizer = @OuterAdam()",
            "but must be InnerOptimizer (@name(), with brackets) or None. It returns OuterAdam."
            " Write for example @adam(), @adamw(), @momentum(), @sgd().",
        ),
        (
            "MetaTrainer.estimator = @MixedMode",
            "Estimator (@name(), with brackets) or None. Its brackets are missing: @MixedMode().",
        ),
        ("MetaTrainer.estimator = 'MixedMod'", "Write @MixedMode()."),
        (
            "OuterAdam.learning_rate = @outer/cosine_rate",
            "is the function itself, but must be a number or Schedule (@name(), with brackets)."
            " Its brackets are missing: @outer/cosine_rate().",
        ),
        ("STRATEGY = @mirrored_strategy", "Its brackets are missing: @mirrored_strategy()."),
        ("TOKENIZER = @byte_tokenizer", "Its brackets are missing: @byte_tokenizer()."),
        (
            "RATER = @text_rater()",
            "RATER = @text_rater() is what the function returns, but must be a function (@name,"
            " without brackets) in experiment.rater. Leave the brackets away: @text_rater.",
        ),
        ("RATER = @byte_tokenizer", "It returns ByteTokenizer. Write for example @"),
        (
            "embedded_corpus.packages = 'numpy'",
            "embedded_corpus.packages = 'numpy' is text, but must be a list [...], each text in"
            " quotes. Write ['numpy'].",
        ),
        (
            "embedded_corpus.packages = ['numpy', 3]",
            "embedded_corpus.packages[1] = 3 is a whole number, but must be text in quotes."
            " Write '3'.",
        ),
        (
            "experiment.initial_rater = ['runs/a']",
            "experiment.initial_rater = ['runs/a'] is a list, but must be text in quotes,"
            " FittedRater (@name(), with brackets) or None. Write for example @fitted_rater().",
        ),
        ("MetaTrainer.jit_compile = 'False'", "must be True or False. Write False without quotes."),
        (
            "MetaTrainer.lifetime = True",
            "is a truth value, but must be a whole number, a list [...], each a whole number or"
            " None, Draw (@name(), with brackets), a function (@name, without brackets) or None."
            " Write for example @listed(), @log_uniform(), @uniform().",
        ),
        ("meta_train.callback_fns = @DamageFound", "Write [@DamageFound]."),
        ("CORPUS = 'my.jsonl'", "compare_filtered.corpus, text_data.corpus. Write for example @"),
    ],
)
def test_the_quick_start_with_a_wrong_value(binding, message):
    found = refusal(binding, gin_files="experiments/quickstart.gin")
    assert found.startswith(f"--gin_param number 1: {binding.partition(' ')[0]}")
    assert message in found and "\n" not in found


@pytest.mark.parametrize(
    "binding, message",
    [
        ("jsonl_corpus.path = 3", "must be a path in quotes or a list [...], each a path in quo"),
        ("filter_corpus.shard_bytes = '64 apples'", "'64 apples' is no size: write a number and"),
        ("filter_corpus.batch_size = '64MB'", "is text, but must be a whole number."),
        ("split_fractions.train = '0.9'", "must be a number. Write 0.9 without quotes."),
        ("car.engine = @SteamEngine", "Its brackets are missing: @SteamEngine()."),
        ("car.engine = @round_wheel()", "Leave the brackets away: @round_wheel."),
        ("car.wheel = @SteamEngine()", "It returns SteamEngine. Write for example @round_wheel()."),
        ("car.wheel = @round_wheel", "Its brackets are missing: @round_wheel()."),
        ("car.build_wheel = @round_wheel()", "Leave the brackets away: @round_wheel."),
        ("car.colour = 'green'", "must be 'red' or 'blue'."),
        ("car.seats = [4]", "car.seats = [4] is a list, but must be a whole number."),
        ("car.doors = 'a'", "car.doors = 'a' is text, but must be a whole number."),
        ("old/car.log = 3", "old/car.log = 3 is a whole number, but must be a path in quotes."),
        ("car.seats = %test_bound_values.TEXT", "is text, but must be a whole number."),
    ],
)
def test_wrong_values_of_any_configurable(binding, message):
    assert message in refusal(binding)


def test_the_line_of_the_macro_and_every_use_are_named_and_all_problems_at_once(tmp_path):
    path = tmp_path / "a.gin"
    path.write_text("# mine\nMANY = 'x'\nTHERE = %MANY\ncar.seats = %THERE\ncar.weight = 'y'\n")
    assert refusal("round_wheel.spokes = %MANY", gin_files=str(path)).splitlines() == [
        f"{path} line 2: MANY = 'x' is text, but must be a whole number in car.seats,"
        " round_wheel.spokes. Write for example 64.",
        f"{path} line 5: car.weight = 'y' is text, but must be a number. Write for example 0.5.",
    ]


def test_a_part_that_a_macro_stands_for_is_traced_to_it():
    found = refusal("car.names = ['a', %NAME]", "NAME = 3")
    assert found == (
        "--gin_param number 2: NAME = 3 is a whole number, but must be text in quotes in"
        " car.names. Write '3'."
    )


def test_a_macro_that_stands_for_itself_is_refused():
    assert "(%A stands for itself)" in refusal("A = %B", "B = %A", "car.seats = %A")


def test_whole_numbers_and_sizes_are_converted_where_they_are_written():
    bindings = ["N = 64.0", "car.seats = %N", "car.weight = %N", "SIZE = '64MB'"]
    configuration.parse((), [*bindings, "car.tank_bytes = %SIZE", "car.doors = 1e3"])
    found = car()
    assert (found["seats"], found["weight"]) == (64, 64)
    assert isinstance(found["seats"], int) and isinstance(found["doors"], int)
    assert (found["tank_bytes"], found["doors"]) == (64_000_000, 1000)
    text = configuration.parsed_config()  # what a run is known by does not depend on the writing
    configuration.parse((), ["N = 64", *bindings[1:3], "SIZE = 64000000",
                             "car.tank_bytes = %SIZE", "car.doors = 1000"])  # fmt: skip
    assert configuration.parsed_config() == text


def test_a_macro_that_cannot_serve_both_its_uses_is_refused():
    found = refusal("SIZE = '1kB'", "car.tank_bytes = %SIZE", "car.title = %SIZE")
    assert "must be text in quotes in car.title" in found


def test_what_is_not_surely_wrong_passes():
    configuration.parse(
        (),
        [
            "car.seats = None",  # its default
            "car.wheel = @unannotated()",
            "car.engine = @unannotated",
            "car.build_wheel = @unannotated",
            "car.names = ('a', 'b')",
            "car.doors = %test_bound_values.SIX",
            "unannotated.thing = 'anything'",
        ],
    )
    assert car()["names"] == ("a", "b") and car()["wheel"] == "anything" and car()["doors"] == 6


def test_a_users_own_module_gets_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_bound_module.py").write_text(
        "import gin\n\n@gin.configurable\ndef my_model(width: int, rate: 'float | None' = None):\n"
        "    return width, rate\n"
    )
    path = tmp_path / "a.gin"
    path.write_text("import my_bound_module\nmy_model.width = '8'\nmy_model.rate = 'fast'\n")
    assert refusal(gin_files=str(path)).splitlines() == [
        f"{path} line 2: my_model.width = '8' is text, but must be a whole number. Write 8 without"
        " quotes.",
        f"{path} line 3: my_model.rate = 'fast' is text, but must be a number or None. Write for"
        " example 0.5.",
    ]


def test_fragments_are_not_held_to_it():
    configuration.parse((), ["car.seats = 'open'"], complete=False)
