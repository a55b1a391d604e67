"""Programs lowered from shapes alone, the bytes that enter them, and estimates."""

import keras
import pytest
import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2
import tiny_quickstart

from dr_keras.config import configuration
from dr_keras.errors import ConfigurationError
from dr_keras.meta import estimators
from dr_keras.meta.optimizers import adam
from dr_keras.meta.problem import InnerState
from dr_keras.meta.pytrees import tree_bytes
from dr_keras.precompile import estimates, programs, setup

TINY = [
    *tiny_quickstart.ONE_UPDATE,
    "MetaTrainer.inner_batch_size = 4",
    "MetaTrainer.outer_batch_size = 4",
    "MetaTrainer.advance_updates = 1",
]


@pytest.fixture
def tiny():
    configuration.parse("experiments/quickstart.gin", TINY)
    return setup.from_gin()


def parameter_bytes(hlo: bytes) -> int:
    module = hlo_pb2.HloModuleProto.FromString(hlo)
    sizes = {1: 1, 4: 4, 5: 8, 8: 4, 9: 8, 11: 4, 12: 8}  # of XLA's element types
    total = 0
    for shape in module.host_program_shape.parameters:
        count = sizes[shape.element_type]
        for size in shape.dimensions:
            count *= size
        total += count
    return total


def test_the_programs_that_are_lowered_take_what_is_counted(tiny):
    made = programs.build(tiny)
    assert [program.name for program in made] == list(programs.PROGRAMS)
    for program in made:
        hlo = programs.lower(program).hlo
        assert parameter_bytes(hlo) == sum(program.argument_bytes().values()), program.name
        module = hlo_pb2.HloModuleProto.FromString(hlo)
        opcodes = {i.opcode for c in module.computations for i in c.instructions}
        assert "dot" in opcodes
        assert not opcodes & {"custom-call", "infeed", "outfeed", "copy"}
    assert all(v._value is None for v in tiny.trainer.inner_model.variables)


def test_a_members_state_is_three_copies_of_its_parameters(tiny):
    parameters = tiny.trainer.inner_model.count_params()
    (program,) = programs.build(tiny, ["meta_step"])
    found = program.argument_bytes()
    assert found["member"] == 12 * parameters + 4  # its age
    assert found["rater"] == 4 * tiny.rater.count_params()
    assert found["outer_adam"] == 8 * tiny.rater.count_params() + 4
    assert found["batches"] == 4 * 8 * 4 * 2  # inner and outer, 4 rows of 8 tokens of 4 bytes


def test_a_program_that_is_none(tiny):
    with pytest.raises(ConfigurationError, match="no program 'meta': choose of meta_step"):
        programs.build(tiny, ["meta"])


def test_a_feature_that_the_loss_misses_is_named():
    configuration.parse("experiments/mnist_corruption.gin")
    built = setup.from_gin()
    with pytest.raises(ConfigurationError, match="--feature label:int32"):
        estimates.facts_of(built, programs.build(built, ["score"]))


def test_facts_of_a_configuration(tiny):
    found = {line["program"]: line for line in estimates.facts_of(tiny, programs.build(tiny))}
    assert found["meta_step"]["estimator"] == "nested_tape"
    assert found["train_step"]["batch_size"] == 8
    assert found["score"]["arguments"]["rater"] == 4 * tiny.rater.count_params()
    # 3 F a training step of 8; one update, outer loss and first cotangents: (3 + 3 + 2) F of 4.
    inner = found["train_step"]["flops_by_formula"] / 24
    rater = found["score"]["flops_by_formula"] / 4
    assert inner == int(inner) and inner > 2 * 8 * 258 * 8  # its logits alone
    assert found["meta_step"]["flops_by_formula"] == 8 * 4 * inner + 3 * 4 * rater
    assert all(line["estimated_temp_bytes"] > 0 for line in found.values())


@pytest.mark.parametrize(
    "binding, message",
    [
        ("MetaTrainer.estimator = @MixedMode()\nMixedMode.micro_batches = 3", "does not divide"),
        ("PER_EXAMPLE_LOSS = @squared_error", "--feature target:int32"),
        ("text_rater.width = 9", "cannot be built: text_rater: width 9 must be"),
        ("MetaTrainer.lifetime = 1", "shorter than"),
    ],
)
def test_a_wrong_configuration_is_caught_without_a_compiler(binding, message):
    configuration.parse("experiments/quickstart.gin", [*TINY, *binding.split("\n")])
    with pytest.raises(ConfigurationError, match=message):
        built = setup.from_gin()
        estimates.facts_of(built, programs.build(built))


def test_held_is_what_enters_and_leaves_matrix_products():
    def function(batch, weights):
        hidden = tf.nn.relu(tf.matmul(batch["x"], weights))  # x in, product out
        hidden = tf.matmul(tf.reshape(hidden, [2, 3, 5]), tf.matmul(weights, weights)[:5, :5])
        return tf.reduce_sum(tf.exp(hidden))

    batch = {"x": tf.TensorSpec([6, 5])}
    found = estimates.held_by(function, batch, tf.TensorSpec([5, 5]))
    # x, its product, relu of it, the second product: 6 x 5 floats each; products of weights: none.
    assert found.bytes == 4 * 6 * 5 * 4
    assert found.largest == 6 * 5 * 4


def test_held_by_a_loop_is_one_body_and_what_it_stacks():
    def function(batch, weights):
        array = tf.TensorArray(tf.float32, 7, element_shape=[6, 5])

        def body(index, x, array):
            array = array.write(index, x)
            return index + 1, tf.tanh(tf.matmul(x, weights)), array

        _, x, array = tf.while_loop(lambda index, *_: index < 7, body, (0, batch["x"], array))
        return tf.reduce_sum(x) + tf.reduce_sum(array.stack())

    found = estimates.held_by(function, {"x": tf.TensorSpec([6, 5])}, tf.TensorSpec([5, 5]))
    assert found.bytes == (2 + 7) * 6 * 5 * 4


def test_saved_states_by_hand():
    theta = [tf.TensorSpec([10])]
    state = InnerState(theta, [], {"m": theta, "v": theta}, tf.TensorSpec([], tf.int32))
    assert tree_bytes(adam().init([tf.zeros(10)])) == 80
    assert estimators.NestedTape().saved_bytes(state, 4) == 0
    assert estimators.Recompute().saved_bytes(state, 4) == 3 * 120
    assert estimators.MixedMode().saved_bytes(state, 4) == 3 * 160 + 40
    every = estimators.MixedMode(checkpoint_every="sqrt")
    assert every.saved_bytes(state, 4) == 2 * 160 + 2 * 120
    assert estimators.Recompute().saved_bytes(state, 1) == 0


def test_recomputed_blocks_hold_less():
    def held(**options):
        tokens = {"tokens": tf.TensorSpec([4, 32], tf.int32)}
        from dr_keras.models.text_models import language_model

        model = language_model(50, 32, width=16, layer_count=6, heads=2, **options)
        assert isinstance(model, keras.Model)
        return estimates.held_by(lambda batch: tf.nest.flatten(model(batch)), tokens).bytes

    assert held(recompute_blocks=True) < held() / 3
