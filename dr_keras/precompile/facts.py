"""What is known of each program of a configuration without a compiler."""

from collections.abc import Mapping, Sequence
import hashlib

from dr_keras.config import run_configuration
from dr_keras.errors import ConfigurationError
from dr_keras.meta import estimators
from dr_keras.precompile import estimates
from dr_keras.precompile.programs import Program, state_specs
from dr_keras.precompile.setup import Setup
from dr_keras.training.flops import forward_flops, meta_training_flops


def facts_of(setup: Setup, programs: Sequence[Program]) -> list[dict]:
    """A JSON-able dict for each program; checks shapes and dtypes of all of them on the way.

    Keys: program, config (a fingerprint of the bindings), arguments (role -> bytes), parameters,
    estimator, unroll_length, population, batch_size, features, saved_state_bytes,
    estimated_temp_bytes, flops_by_formula.

    Raises:
      ConfigurationError: models, loss, features and settings do not fit together.
    """
    trainer = setup.trainer
    temporaries = estimates.temporaries(setup, [program.name for program in programs])
    flops = _flops(setup, programs)
    config = hashlib.sha256(run_configuration.parsed_config().encode()).hexdigest()[:16]
    features = {n: [d.name, *shape] for n, (shape, d) in setup.features.items()}
    common = {
        "config": config,
        "parameters": {
            "inner_model": trainer.inner_model.count_params(),
            "rater": setup.rater.count_params(),
        },
        "estimator": getattr(trainer.estimator, "name", type(trainer.estimator).__name__),
        "micro_batches": trainer.micro_batches,
        "unroll_length": trainer.unroll_length,
        "population": trainer.population.size,
        "features": features,
    }
    saved = estimates.saved_state_bytes(
        trainer.estimator, state_specs(setup), trainer.unroll_length
    )
    return [
        {
            "program": program.name,
            **common,
            "batch_size": _batch_size(setup, program.name),
            "arguments": program.argument_bytes(),
            "saved_state_bytes": saved if program.name == "meta_step" else 0,
            "estimated_temp_bytes": temporaries[program.name],
            "flops_by_formula": flops[program.name],
        }
        for program in programs
    ]


def _batch_size(setup: Setup, name: str) -> int:
    if name == "train_step":
        return setup.train_step.batch_size
    if name == "score":
        return setup.trainer.rows_at_once
    return setup.trainer.inner_batch_size


def _flops(setup: Setup, programs: Sequence[Program]) -> Mapping[str, int | None]:
    """Program -> operations of its matrix products; None where they cannot be counted.

    By the formulas of `dr_keras.training.flops`; what recomputed blocks and chunks run again is
    left out.
    """
    trainer = setup.trainer
    try:
        inner = forward_flops(setup.zeros.model(setup.inner_model), setup.features)
        rater = forward_flops(setup.rater, setup.features)
    except ConfigurationError:
        return {program.name: None for program in programs}
    batch = trainer.inner_batch_size
    second = {estimators.Recompute: 8.0, estimators.FirstOrder: 2.0}
    found = {
        "score": rater * trainer.rows_at_once,
        "advance": (3 * inner + rater) * batch,
        "meta_step": meta_training_flops(
            inner, rater, 1, 1, trainer.unroll_length, batch, trainer.outer_batch_size,
            second_updates=second.get(type(trainer.estimator), 6.0),
        )["total"],
    }  # fmt: skip
    if any(program.name == "train_step" for program in programs):
        same = setup.train_step.model_fn.args[0] is setup.inner_model
        own = inner if same else forward_flops(setup.train_step.model, setup.features)
        found["train_step"] = 3 * own * setup.train_step.batch_size
    return found
