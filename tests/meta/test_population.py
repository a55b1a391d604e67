"""The population: staggered lifetimes, fresh seeds, and nothing touched that is not its own."""

import random

import keras
import numpy as np
import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.lifetimes import Lifetimes
from dr_keras.meta.optimizers import OuterAdam, adam
from dr_keras.meta.population import Beginnings, Population, initial_values

ETA = [np.zeros(2, np.float32)]


def tiny_model() -> keras.Model:
    x = keras.Input((3,), name="x")
    hidden = keras.layers.Dropout(0.1)(keras.layers.Dense(4)(x))
    return keras.Model({"x": x}, keras.layers.Dense(1)(hidden))


def population_of(size, lifetime, updates=2, seed=0, constructor=tiny_model) -> Population:
    beginnings = Beginnings(constructor, adam(), OuterAdam(), ETA, seed)
    return Population(beginnings, size, lifetime, updates, OneDevice())


def weights_of(population, index) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in population.members[index].state.theta])


def simulate(population, meta_steps: int):
    """Ages before each meta-step [steps, size] and (meta-step, member) of re-initialisations."""
    restarts, ages = [], []
    for step in range(meta_steps):
        restarts += [(step, index) for index in population.begin_step(step)]
        ages.append(population.ages())
        for member in population.members:
            member.state.age.assign_add(population.updates_per_step)
    return np.array(ages), restarts


def scheduled(size, lifetime, updates, meta_steps):
    """As `simulate`, from the lifetimes alone: no models."""
    lifetimes = Lifetimes(lifetime, size, updates, seed=0)
    ages, restarts, rows = [0] * size, [], []
    for step in range(meta_steps):
        for index in range(size):
            if lifetimes.end(index, step):
                restarts.append((step, index))
                ages[index] = 0
        rows.append(list(ages))
        ages = [age + updates for age in ages]
    return np.array(rows), restarts


def test_members_start_again_where_the_schedule_says():
    ages, restarts = simulate(population_of(2, lifetime=8), 11)
    # Member 0 lives 8 updates, 4 meta-steps; member 1 first half as long.
    assert restarts == [(2, 1), (4, 0), (6, 1), (8, 0), (10, 1)]
    assert ages[:, 0].tolist() == [0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4]
    assert ages[:, 1].tolist() == [0, 2, 0, 2, 4, 6, 0, 2, 4, 6, 0]


@pytest.mark.parametrize(
    "size, lifetime, updates",
    [(1, 4, 2), (3, 12, 1), (4, 8, 2), (8, 1000, 2), (5, 17, 3), (3, 7, 2), (6, 50, 8)],
)
def test_ages_stay_within_the_lifetime_and_are_staggered(size, lifetime, updates):
    ages, restarts = scheduled(size, lifetime, updates, meta_steps=4 * lifetime)
    after_updates = ages + updates
    # A lifetime ends between meta-steps: at the first one that reaches it.
    assert after_updates.max() < lifetime + updates
    if lifetime % updates == 0:
        assert after_updates.max() == lifetime
    for index in range(size):
        own = [step for step, member in restarts if member == index]
        spans = np.diff(own) * updates
        assert np.all(np.abs(spans - lifetime) < updates), spans
    if lifetime // size >= updates:
        # No two members start again together, and at any later time all ages differ.
        steps = [step for step, _ in restarts]
        assert len(set(steps)) == len(steps)
        settled = ages[-(-lifetime // updates) + 1 :]
        assert all(len(set(row)) == size for row in settled.tolist())


def test_without_a_lifetime_members_never_start_again():
    _, restarts = simulate(population_of(2, lifetime=None), 30)
    assert restarts == []


def test_each_initialisation_has_its_own_weights():
    population = population_of(2, lifetime=4)
    seen = [weights_of(population, 0), weights_of(population, 1)]
    for index in (0, 0, 1):
        population.reinitialise(index)
        seen.append(weights_of(population, index))
    for first in range(len(seen)):
        for second in range(first):
            assert np.abs(seen[first] - seen[second]).max() > 1e-3
    assert [int(member.generation) for member in population.members] == [2, 1]


def test_a_new_life_begins_with_empty_slots_and_keeps_the_outer_adam():
    population = population_of(1, lifetime=4)
    member = population.members[0]
    for variable in [*member.state.slots["m"], *member.state.slots["v"], *member.outer_slots["m"]]:
        variable.assign(variable + 1.0)
    member.state.age.assign(4)
    member.contributions.assign(2)
    population.reinitialise(0)
    assert not any(np.any(leaf) for leaf in [*member.state.slots["m"], *member.state.slots["v"]])
    assert int(member.state.age) == 0
    assert member.outer_slots["m"][0].numpy().tolist() == [1.0, 1.0]
    assert int(member.contributions) == 2


def test_the_seed_decides_everything():
    first, same, other = (population_of(2, 8, seed=seed) for seed in (3, 3, 4))
    for population in (first, same, other):
        random.seed(id(population))  # what the rest of the program draws is of no account
        np.random.seed(id(population) % 2**32)
        population.reinitialise(1)
    for index in (0, 1):
        np.testing.assert_array_equal(weights_of(first, index), weights_of(same, index))
        assert np.abs(weights_of(first, index) - weights_of(other, index)).max() > 1e-3
        for a, b in zip(
            first.members[index].state.statistics, same.members[index].state.statistics
        ):
            np.testing.assert_array_equal(a, b)  # seeds of dropout


def test_random_states_outside_are_left_as_they_were():
    population = population_of(1, lifetime=4)
    keras.utils.set_random_seed(1)
    expected = (random.random(), np.random.random(), keras.random.uniform((3,)).numpy())
    keras.utils.set_random_seed(1)
    population.reinitialise(0)
    found = (random.random(), np.random.random(), keras.random.uniform((3,)).numpy())
    assert expected[:2] == found[:2]
    np.testing.assert_array_equal(expected[2], found[2])


def test_initial_values_depend_on_the_seed_alone():
    first, again, other = (initial_values(tiny_model, seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    assert np.abs(first[0] - other[0]).max() > 1e-3


@pytest.mark.parametrize(
    "size, lifetime, updates, message",
    [
        (0, 8, 2, "population_size is 0: it must be a whole number of at least 1"),
        (2, 8.0, 2, "lifetime is 8.0: it must be a whole number"),
        (2, 3, 4, "lifetime is 3 inner updates, shorter than the 4 of one meta-step"),
    ],
)
def test_impossible_populations_are_refused(size, lifetime, updates, message):
    with pytest.raises(ConfigurationError, match=message):
        population_of(size, lifetime, updates)


def test_first_lives_are_shorter_in_turn():
    _, restarts = scheduled(size=4, lifetime=8, updates=1, meta_steps=9)
    # member i begins as if it had lived i quarters of a life
    assert restarts == [(2, 3), (4, 2), (6, 1), (8, 0)]


def test_a_member_is_saved_under_these_names():
    """Checkpoints of earlier versions restore by them."""
    found = population_of(2, lifetime=4).variables()
    assert set(found) == {"0", "1"}
    assert set(found["0"]) == {
        "theta", "non_trainable", "slots", "age", "outer_slots", "contributions", "generation"
    }  # fmt: skip
    assert set(found["0"]["slots"]) == set(found["0"]["outer_slots"]) == {"m", "v"}


def test_a_lifetime_may_be_as_short_as_one_meta_step():
    population = population_of(1, lifetime=2, updates=2)
    assert [step for step in range(4) if population.lifetime_ends(0, step)] == [1, 2, 3]
    assert population_of(1, lifetime=1, updates=1).lifetime_ends(0, 1)


def test_a_population_begins_with_nothing_done():
    for member in population_of(2, lifetime=4).members:
        assert (int(member.contributions), int(member.generation), int(member.state.age)) == (
            0,
            0,
            0,
        )
