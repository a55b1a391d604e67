"""An estimator of somebody's own: without derivatives, with random directions and a memory."""

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.meta import pytrees
from dr_keras.meta.checkpoints import Checkpoints
from dr_keras.meta.optimizers import OuterAdam
from dr_keras.meta.problem import inner_update
from dr_keras.meta.weighting import weight_metrics


class Evolution:
    """Antithetic evolution strategies; remembers a member's mean outer loss and its keys.

    The interface is that of `dr_keras.meta.estimators`; the method stands for all of its kind.
    """

    spread, pairs = 0.05, 1

    def init(self, state, eta):
        return {"mean_loss": tf.constant(0.0), "key": tf.zeros([2], tf.int32)}

    def __call__(self, problem, state, eta, inner_batches, outer_batches, key=None):
        length = next(iter(inner_batches.values())).shape[0]

        def unrolled(eta):
            after, records = state, []
            for batch in pytrees.unstack_batches(inner_batches, length):
                weights, scores = problem.weigh(eta, after, batch)
                after, losses = inner_update(problem, after, weights, batch)
                records.append(
                    {"scores": scores, "inner_losses": losses, **weight_metrics(weights)}
                )
            return (
                problem.outer_losses(after.theta, after.statistics, outer_batches),
                after,
                records,
            )

        gradient = pytrees.zeros_like(eta)
        for pair in range(self.pairs):
            draws = [
                self.spread * tf.random.stateless_normal(leaf.shape, key + [0, 1000 * pair + n])
                for n, leaf in enumerate(eta)
            ]
            losses = [
                problem.combination(unrolled([p + sign * d for p, d in zip(eta, draws)])[0])
                for sign in (1, -1)
            ]
            slope = (losses[0] - losses[1]) / (2 * self.spread**2 * self.pairs)
            gradient = [g + slope * d for g, d in zip(gradient, draws)]
        outer_losses, after, records = unrolled(eta)
        outer_loss = problem.combination(outer_losses)
        mean = 0.9 * state.memory["mean_loss"] + 0.1 * outer_loss
        metrics = {name: tf.stack([r[name] for r in records]) for name in records[0]}
        metrics["outer_losses"] = outer_losses
        memory = {"mean_loss": mean, "key": key}
        return outer_loss, gradient, after._replace(memory=memory), metrics


@pytest.fixture
def trainer(regression_trainer):
    def build(**arguments):
        settings = dict(estimator=Evolution(), outer_optimizer=OuterAdam(0.05, 2, 1.0, 0.0))
        return regression_trainer(**(settings | arguments))

    return build


def memories(trainer) -> list[dict]:
    return [
        {name: variable.numpy() for name, variable in member.state.memory.items()}
        for member in trainer.population.members
    ]


def test_keys_differ_by_member_and_step_and_memory_ends_with_a_life(trainer, regression_sets):
    built, seen, losses = trainer(lifetime=8), [], []
    for step in range(1, 5):
        built.fit(*regression_sets, step)
        seen.append(memories(built))
        losses.append(built.last_record.members["outer_loss"])
    keys = {tuple(memory["key"]) for step in seen for memory in step}
    assert len(keys) == 8
    # Member 1 begins its second life before the third of these steps.
    expected = 0.1 * losses[0][1], 0.1 * (0.9 * losses[0][1] + losses[1][1]), 0.1 * losses[2][1]
    for step, value in enumerate(expected):
        assert seen[step][1]["mean_loss"] == pytest.approx(value, rel=1e-4)
    assert seen[2][0]["mean_loss"] > 0.1 * losses[2][0]


def test_it_learns_and_resumes_bit_for_bit(trainer, regression_sets, tmp_path):
    whole = trainer(lifetime=20)
    whole.fit(*regression_sets, 43, callbacks=[Checkpoints(tmp_path)])
    whole.fit(*regression_sets, 60)
    scores = whole.rater(dict(regression_sets[0].features)).numpy()[:, 0]
    assert (scores[20:, None] > scores[:20]).mean() > 0.8  # the first half lies
    resumed = trainer(lifetime=20, rater_seed=99)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_trainer(resumed)
    assert checkpoints.restore() == 43
    resumed.fit(*regression_sets, 60)
    for a, b in zip(tf.nest.flatten(memories(whole)), tf.nest.flatten(memories(resumed))):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(whole.rater.trainable_variables, resumed.rater.trainable_variables):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
