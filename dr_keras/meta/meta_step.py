"""One meta-step: of a member, compiled, and of all members on all replicas.

What is compiled is a pure function of tensors; variables are read and assigned around it, because
inside compiled code a strategy can neither reduce nor assign.
"""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

import tensorflow as tf

from dr_keras.meta import noise, pytrees
from dr_keras.meta.estimators import Estimator
from dr_keras.meta.optimizers import OuterAdam
from dr_keras.meta.population import Population, assign, values_of
from dr_keras.meta.problem import InnerState, inner_losses, inner_update
from dr_keras.meta.weighting import masked_mean
from dr_keras.models.rater_scores import mean_of_tokens


class Unrolled(NamedTuple):
    """What the unroll of a member found.

    Attributes:
      outer_loss: scalar.
      gradient: of the outer loss, a list like eta.
      state: InnerState after the unroll.
      metrics: as an estimator gives them.
      after: losses of the first inner batch under that state.
      counts: of each inner batch the tokens that its losses stand for, see `MetaProblem`.
    """

    outer_loss: tf.Tensor
    gradient: list
    state: InnerState
    metrics: dict
    after: tf.Tensor
    counts: list


@dataclasses.dataclass(frozen=True, eq=False)
class MemberStep:
    """The meta-step of a member that one replica carries by itself. Tensors in, tensors out.

    Attributes:
      problem_of: what no update changes, see `KerasProblem.constants` -> MetaProblem.
      estimator: of meta-gradients.
      outer_optimizer: whose Adam the member has.
      micro_batches: parts in which a batch goes through the models.
    """

    problem_of: Callable
    estimator: Estimator
    outer_optimizer: OuterAdam
    micro_batches: int

    def advance(self, eta, constants, state, batch):
        """One inner update without meta-gradient: (state', finite); only a finite one is taken."""
        problem = self.problem_of(constants)
        weights, _ = problem.weigh(eta, state, batch, self.micro_batches)
        advanced, _ = inner_update(problem, state, weights, batch, self.micro_batches)
        finite = pytrees.all_finite(advanced)
        return pytrees.where(finite, advanced, state), finite

    def step(
        self, eta, constants, state, outer_slots, contributions, inner_batches, outer_batches, key
    ):
        """Unroll, meta-gradient, the member's outer Adam; what `finish` returns."""
        problem = self.problem_of(constants)
        outer_loss, gradient, new_state, metrics = self.estimator(
            problem, state, eta, inner_batches, outer_batches, key=key
        )
        first = {name: value[0] for name, value in inner_batches.items()}
        after = inner_losses(problem, new_state, first, self.micro_batches)
        batches = pytrees.unstack_batches(inner_batches, metrics["scores"].shape[0])
        counts = [problem.counts(batch) for batch in batches]
        found = Unrolled(outer_loss, gradient, new_state, metrics, after, counts)
        return self.finish(found, state, outer_slots, contributions)

    def finish(self, found: Unrolled, state, outer_slots, contributions):
        """What a member's meta-gradient does: (direction, state', outer slots', report)."""
        outer_loss, gradient, new_state, metrics, after, counts = found
        finite = pytrees.all_finite([outer_loss, gradient, metrics["inner_losses"], new_state])
        direction, new_slots = self.outer_optimizer.member_update(
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
            "inner_loss_before": masked_mean(metrics["inner_losses"][0], counts[0]),
            "inner_loss_after": masked_mean(after, counts[0]),
            "weight_entropy": tf.reduce_mean(metrics["weight_entropy"]),
            "effective_sample_size": tf.reduce_mean(metrics["effective_sample_size"]),
            "scores": _by_example(metrics["scores"], counts),
        }
        adam = self.outer_optimizer
        report["meta_gradient_snr_steps"] = noise.over_steps(
            new_slots, contributions + 1, adam.beta_1, adam.beta_2
        )
        if "share_kept" in metrics:
            report["share_kept"] = tf.reduce_mean(metrics["share_kept"])
        if len(metrics["outer_losses"]) > 1:
            report |= {f"outer_loss/{n}": loss for n, loss in metrics["outer_losses"].items()}
        return direction, new_state, new_slots, report


@dataclasses.dataclass(frozen=True, eq=False)
class PopulationStep:
    """The meta-step of all members on all replicas, and the update of the rater.

    Attributes:
      population: of members.
      replica_eta: the rater's variables as a replica sees them.
      replica_kept: the variables that no update changes, likewise; see
        `KerasProblem.kept_variables`.
      outer_optimizer: moves the rater.
      member_step, advance: compiled, of `MemberStep` or `SplitMember`.
      unroll_length: T; the population's further updates a step are made by `advance`.
    """

    population: Population
    replica_eta: list
    replica_kept: dict
    outer_optimizer: OuterAdam
    member_step: Callable
    advance: Callable
    unroll_length: int

    def __call__(
        self, inner_batches: dict, outer_batches: dict, keys, rater_state: list, meta_step
    ):
        """(members that contributed, report of all members, scalars of the step).

        See `MetaTrainer`'s train step.

        Args:
          rater_state: values of the rater's non-trainable variables.
        """
        return self.population.placement.run(
            self._replica_step, inner_batches, outer_batches, keys, rater_state, meta_step
        )

    def _member(self, member, eta, constants, batches, outer_batches, key):
        """Moves one member on: (direction, whether it contributes, report)."""
        length = self.unroll_length
        direction, state, slots, report = self.member_step(
            eta,
            constants,
            values_of(member.state),
            values_of(member.outer_slots),
            values_of(member.contributions),
            {name: value[:length] for name, value in batches.items()},
            outer_batches,
            key,
        )
        contributed = tf.cast(report["finite"], tf.int32)
        state = InnerState(*state)
        for number in range(length, self.population.updates_per_step):
            batch = {name: value[number] for name, value in batches.items()}
            advanced, still_finite = self.advance(eta, constants, state, batch)
            state = InnerState(*advanced)
            report["finite"] = tf.logical_and(report["finite"], still_finite)
        assign(member.state, state)
        assign(member.outer_slots, slots)
        member.contributions.assign(values_of(member.contributions) + contributed)
        return direction, contributed, report | state.hyper | {"age": state.age}

    def _replica_step(self, inner_batches, outer_batches, keys, rater_state, meta_step):
        """The members of one replica, one after the other, and the update of its rater."""
        placement, eta = self.population.placement, values_of(self.replica_eta)
        constants = {"rater": rater_state, **values_of(self.replica_kept)}
        group = placement.group(self.population.size)
        total, squares, count, reports = None, tf.zeros([], eta[0].dtype), tf.constant(0), []
        for index, member in enumerate(self.population.slots):
            own, held_out, key = tf.nest.map_structure(
                lambda value, index=index: value[index], (inner_batches, outer_batches, keys)
            )
            direction, contributed, report = self._member(
                member, eta, constants, own, held_out, key
            )
            count += contributed
            total = direction if total is None else [a + b for a, b in zip(total, direction)]
            squares += noise.squared_norm(direction)
            reports.append(report)
        if group is not None:
            # Each replica of a group has its member's direction; one of them contributes it.
            speaks = tf.equal(group.place(), 0)
            *total, squares, count = [
                tf.where(speaks, leaf, tf.zeros_like(leaf)) for leaf in (*total, squares, count)
            ]
        *total, squares, count = placement.sum([*total, squares, count])
        if_any = tf.maximum(count, 1)
        mean = [leaf / tf.cast(if_any, leaf.dtype) for leaf in total]
        new_eta = self.outer_optimizer.apply(eta, mean, meta_step)
        new_eta = pytrees.where(count > 0, new_eta, eta)
        for variable, new in zip(self.replica_eta, new_eta):
            variable.assign(new)
        stacked = {name: tf.stack([r[name] for r in reports]) for name in reports[0]}
        gathered = placement.gather(stacked)
        if group is not None:
            gathered = {name: rows[:: group.parts] for name, rows in gathered.items()}
        of_step = {"outer_update_norm": noise.update_norm(new_eta, eta)}
        if self.population.size > 1:
            of_step["meta_gradient_snr"] = noise.across_members(total, squares, count)
        return count, gathered, of_step


def _by_example(scores: tf.Tensor, counts: list) -> tf.Tensor:
    """Scores [T, B], of tokens the means over those that a loss stands for."""
    if scores.shape.rank == 2:
        return scores
    return tf.stack([mean_of_tokens(scores[t], each > 0) for t, each in enumerate(counts)])
