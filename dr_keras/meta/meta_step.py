"""One meta-step: of a member, compiled, and of all members on all replicas.

What is compiled is a pure function of tensors; variables are read and assigned around it, because
inside compiled code a strategy can neither reduce nor assign.
"""

from collections.abc import Callable

import tensorflow as tf

from dr_keras.meta import pytrees
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.estimators import Estimator
from dr_keras.meta.optimizers import OuterAdam
from dr_keras.meta.population import Population
from dr_keras.meta.problem import InnerState, inner_losses, inner_update


class MemberStep:
    """The meta-step of a member that one replica carries by itself. Tensors in, tensors out.

    Args:
      problem_of: the rater's non-trainable values -> MetaProblem.
      estimator: of meta-gradients.
      outer_optimizer: whose Adam the member has.
      micro_batches: parts in which a batch goes through the models.
    """

    def __init__(
        self,
        problem_of: Callable,
        estimator: Estimator,
        outer_optimizer: OuterAdam,
        micro_batches: int,
    ):
        self._problem_of, self._estimator = problem_of, estimator
        self._outer_optimizer, self._micro_batches = outer_optimizer, micro_batches

    def advance(self, eta, rater_state, state, batch):
        """One inner update without meta-gradient: (state', finite); only a finite one is taken."""
        problem = self._problem_of(rater_state)
        weights, _ = problem.weights(eta, batch, self._micro_batches)
        advanced, _ = inner_update(problem, state, weights, batch, self._micro_batches)
        finite = pytrees.all_finite(advanced)
        return pytrees.where(finite, advanced, state), finite

    def step(self, eta, rater_state, state, outer_slots, contributions, inner_batches, outer_batch):
        """Unroll, meta-gradient, the member's outer Adam; what `finish` returns."""
        problem = self._problem_of(rater_state)
        outer_loss, gradient, new_state, metrics = self._estimator(
            problem, state, eta, inner_batches, outer_batch
        )
        first = {name: value[0] for name, value in inner_batches.items()}
        after = tf.reduce_mean(inner_losses(problem, new_state, first, self._micro_batches))
        return self.finish(
            gradient, outer_slots, contributions, state, new_state, outer_loss, metrics, after
        )

    def finish(
        self,
        gradient,
        outer_slots,
        contributions,
        state,
        new_state,
        outer_loss,
        metrics,
        inner_loss_after,
    ):
        """What a member's meta-gradient does: (direction, state', outer slots', report)."""
        finite = pytrees.all_finite([outer_loss, gradient, metrics["inner_losses"], new_state])
        direction, new_slots = self._outer_optimizer.member_update(
            gradient, outer_slots, contributions
        )
        # A member that blew up changes nothing: neither itself nor its Adam nor the rater.
        new_state = pytrees.where(finite, new_state, state)
        new_slots = pytrees.where(finite, new_slots, outer_slots)
        direction = pytrees.where(finite, direction, pytrees.zeros_like(direction))
        report = {
            "finite": finite,
            "outer_loss": outer_loss,
            "meta_gradient_norm": pytrees.global_norm(gradient),
            "inner_loss_before": tf.reduce_mean(metrics["inner_losses"][0]),
            "inner_loss_after": inner_loss_after,
            "weight_entropy": tf.reduce_mean(metrics["weight_entropy"]),
            "effective_sample_size": tf.reduce_mean(metrics["effective_sample_size"]),
            "scores": metrics["scores"],
        }
        return direction, new_state, new_slots, report


class PopulationStep:
    """The meta-step of all members on all replicas, and the update of the rater.

    Args:
      placement: where members live.
      population: of members.
      replica_eta: the rater's variables as a replica sees them.
      outer_optimizer: moves the rater.
      member_step, advance: compiled, of `MemberStep` or `SplitMember`.
      unroll_length: T; the population's further updates a step are made by `advance`.
    """

    def __init__(
        self,
        placement: OneDevice,
        population: Population,
        replica_eta: list,
        outer_optimizer: OuterAdam,
        member_step: Callable,
        advance: Callable,
        unroll_length: int,
    ):
        self._placement, self._population = placement, population
        self._replica_eta, self._outer_optimizer = replica_eta, outer_optimizer
        self._member_step, self._advance = member_step, advance
        self._length = unroll_length
        self._group = placement.group(population.size)

    def __call__(self, inner_batches: dict, outer_batches: dict, rater_state: list, meta_step):
        """(members that contributed, report of all members); see `MetaTrainer`'s train step."""
        return self._placement.run(
            self._replica_step, inner_batches, outer_batches, rater_state, meta_step
        )

    def _member(self, member, eta, rater_state, batches, outer_batch):
        """Moves one member on: (direction, whether it contributes, report)."""
        length = self._length
        direction, state, slots, report = self._member_step(
            eta,
            rater_state,
            tf.nest.map_structure(_read, member.state),
            tf.nest.map_structure(_read, member.outer_slots),
            _read(member.contributions),
            {name: value[:length] for name, value in batches.items()},
            outer_batch,
        )
        contributed = tf.cast(report["finite"], tf.int32)
        state = InnerState(*state)
        for number in range(length, self._population.updates_per_step):
            batch = {name: value[number] for name, value in batches.items()}
            advanced, still_finite = self._advance(eta, rater_state, state, batch)
            state = InnerState(*advanced)
            report["finite"] = tf.logical_and(report["finite"], still_finite)
        tf.nest.map_structure(_assign, member.state, state)
        tf.nest.map_structure(_assign, member.outer_slots, slots)
        member.contributions.assign(_read(member.contributions) + contributed)
        return direction, contributed, report | {"age": state.age}

    def _replica_step(self, inner_batches, outer_batches, rater_state, meta_step):
        """The members of one replica, one after the other, and the update of its rater."""
        eta = [_read(variable) for variable in self._replica_eta]
        total, count, reports = None, tf.constant(0, tf.int32), []
        for index, member in enumerate(self._population.slots):
            direction, contributed, report = self._member(
                member,
                eta,
                rater_state,
                {name: value[index] for name, value in inner_batches.items()},
                {name: value[index] for name, value in outer_batches.items()},
            )
            count += contributed
            total = direction if total is None else [a + b for a, b in zip(total, direction)]
            reports.append(report)
        if self._group is not None:
            # Each replica of a group has its member's direction; one of them contributes it.
            speaks = tf.equal(self._group.place(), 0)
            *total, count = [
                tf.where(speaks, leaf, tf.zeros_like(leaf)) for leaf in (*total, count)
            ]
        *total, count = self._placement.sum([*total, count])
        if_any = tf.maximum(count, 1)
        mean = [leaf / tf.cast(if_any, leaf.dtype) for leaf in total]
        new_eta = self._outer_optimizer.apply(eta, mean, meta_step)
        for variable, old, new in zip(self._replica_eta, eta, new_eta):
            variable.assign(tf.where(count > 0, new, old))
        stacked = {name: tf.stack([r[name] for r in reports]) for name in reports[0]}
        gathered = self._placement.gather(stacked)
        if self._group is not None:
            gathered = {name: rows[:: self._group.parts] for name, rows in gathered.items()}
        return count, gathered


def _read(variable) -> tf.Tensor:
    return variable.read_value()


def _assign(variable, value: tf.Tensor) -> None:
    variable.assign(value)
