"""Settings by member: what is drawn, what is listed, what is refused."""

import numpy as np
import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.meta.draws import by_member, listed, log_uniform, rate, uniform
from dr_keras.meta.lifetimes import Lifetimes


def values_of(draw, members=200, generation=0, seed=0):
    return np.array([draw(seed, member, generation) for member in range(members)])


def test_draws_fill_their_range_evenly():
    linear = values_of(uniform(2.0, 6.0), members=2000)
    assert 2.0 < linear.min() < 2.02 and 5.98 < linear.max() < 6.0
    assert linear.mean() == pytest.approx(4.0, abs=0.1)
    orders = values_of(log_uniform(1e-4, 1e-2), members=2000)
    assert orders.min() > 1e-4 and orders.max() < 1e-2
    assert (orders < 1e-3).mean() == pytest.approx(0.5, abs=0.03)


def test_a_draw_depends_on_seed_member_and_generation_alone():
    draw = log_uniform(1e-4, 1e-2)
    first = draw(3, 1, 2)
    assert draw(3, 1, 2) == first
    assert len({first, draw(4, 1, 2), draw(3, 2, 1), draw(3, 1, 3)}) == 4


def test_one_value_a_list_and_a_draw_mean_the_obvious():
    def chosen(setting, generation=0):
        setting = by_member("learning_rates", setting, 3, 7, rate)
        return [setting(member, generation) for member in range(3)]

    assert chosen(0.1) == chosen(0.1, 5) == [0.1] * 3
    assert chosen([0.1, 0.2, 0.3]) == chosen([0.1, 0.2, 0.3], 5) == [0.1, 0.2, 0.3]
    assert chosen(listed([0.1, 0.2])) == [0.1, 0.2, 0.1]
    assert chosen(lambda seed, member, generation: member + generation + 1.0, 2) == [3, 4, 5]
    assert len({*chosen(uniform(1, 2)), *chosen(uniform(1, 2), generation=1)}) == 6


def test_settings_that_are_drawn_alike_are_drawn_apart():
    rates, others = (by_member(name, uniform(1, 2), 1, 7, rate) for name in ("rates", "others"))
    assert rates(0, 0) != others(0, 0)


@pytest.mark.parametrize(
    "setting, message",
    [
        (0.0, r"learning_rates is 0\.0: it must be a positive number"),
        ("1e-3", "learning_rates is '1e-3': it must be a positive number"),
        ([0.1, -0.1, 0.1], r"learning_rates\[1\] is -0\.1: it must be a positive number"),
        ([0.1, 0.2], "lists 2 values for 3 members: give one for each .* or @listed"),
        (uniform(-1e-9, 1.0), r"learning_rates, a bound of uniform, is -1e-09: it must be a pos"),
        (lambda seed, member, generation: -member, "learning_rates of member 0 is 0: it must be"),
        (uniform, r"(?s)which is no draw: .* Use @uniform\(\), @log"),  # without its brackets
        (lambda age: 0.1, r"which is no draw: it must take \(seed, member, generation\)"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(setting, message):
    with pytest.raises(ConfigurationError, match=message):
        by_member("learning_rates", setting, 3, 0, rate)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: uniform(2, 1), "uniform has low 2 and high 1: low must not be above high"),
        (lambda: log_uniform(0, 1), "log_uniform.low is 0: it must be positive"),
        (lambda: listed([]), "listed.values is empty"),
    ],
)
def test_draws_that_cannot_be_are_refused(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


# ------------------------------------------------------------------------------------- lifetimes


def ends(lifetime, member, steps, size=4, updates=2, seed=0):
    lifetimes = Lifetimes(lifetime, size, updates, seed)
    return [step for step in range(steps) if lifetimes.end(member, step)]


@pytest.mark.parametrize("lifetime, updates", [(8, 2), (7, 2), (1000, 2), (17, 3), (2, 2)])
def test_one_lifetime_for_all_ends_where_it_always_did(lifetime, updates):
    for member in range(5):
        done = np.arange(400) * updates + member * lifetime // 5
        expected = np.flatnonzero(done // lifetime > (done - updates) // lifetime)
        found = ends(lifetime, member, 400, 5, updates)
        assert found == [step for step in expected.tolist() if step]
        assert found == ends([lifetime] * 5, member, 400, 5, updates)


def test_members_live_as_long_as_the_list_says():
    listing = [8, None, 20, 4]
    assert ends(listing, 0, 13) == [4, 8, 12]
    assert ends(listing, 1, 500) == []
    assert ends(listing, 2, 26) == [5, 15, 25]  # the first life is half as long
    assert ends(listing, 3, 7) == [1, 2 + 1, 4 + 1]  # three quarters


def test_a_life_that_is_drawn_has_its_own_length():
    """Asked for in any order, as by a run that is resumed."""
    draw = uniform(5.0, 40.0)
    found = ends(draw, 2, 400)
    again = Lifetimes(draw, 4, 2, 0)
    assert [step for step in reversed(range(400)) if again.end(2, step)] == found[::-1]
    lives = np.diff(found) * 2
    assert lives.min() >= 4 and lives.max() <= 41 and len(set(lives)) > 10
    assert found != ends(draw, 2, 400, seed=1)


@pytest.mark.parametrize(
    "lifetime, message",
    [
        ([8, 8, 1, 8], r"lifetime\[2\] is 1 inner updates, shorter than the 2 of one meta-step"),
        ([8, 8, 8.5, 8], r"lifetime\[2\] is 8\.5: it must be a whole number of at least 1"),
        (uniform(0.6, 9), "lifetime, a bound of uniform, is 1 inner updates, shorter than the 2"),
    ],
)
def test_lives_that_are_too_short_are_refused(lifetime, message):
    with pytest.raises(ConfigurationError, match=message):
        Lifetimes(lifetime, 4, 2, 0)
