"""Evaluation counts each episode once, shows a policy what it may see, and nothing more."""

import json
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from limbeck.envs import probe
from limbeck.errors import BadSetting, UnknownName
from limbeck.evaluate import AT_RANDOM, Episodes, evaluate, evaluator, retention
from limbeck.types import LOCAL, PRIVILEGED, EnvSpec, Observation, Outcome, Policy


def policy(choose, view=LOCAL, init_carry=lambda n: ()):
    """`choose(decision, carry, key) -> action, carry`, without parameters of weight."""

    def act(params, carry, decision, key, explore):
        return choose(decision, carry, key)

    return Policy(act, view, lambda params: params, init_carry)


def at_random(decision, carry, key):
    return jax.random.categorical(key, jnp.where(decision.avail_actions, 0.0, -jnp.inf)), carry


def read_the_state(decision, carry, key):
    env = probe.Lever()
    secrets = decision.state.reshape(-1, env.n_agents, env.levers).argmax(-1)
    slot = decision.obs[..., : env.n_agents].argmax(-1)
    return jnp.take_along_axis(secrets, slot, axis=1), carry


def remember(decision, carry, key):
    """Plays the switch; the carry is what the first observation showed."""
    carry = jnp.where(decision.is_first[:, None], decision.obs[..., 2], carry)
    return jnp.where(decision.obs[..., 3] == 1, 1 + carry.astype(int), 0), carry


class CoinState(NamedTuple):
    limit: jax.Array
    step: jax.Array


class Coin:
    """An episode lasts 1 step or 20, by chance; its return is its length; the short ones are won."""

    spec = EnvSpec("mine/coin", 1, 2, obs_dim=1, state_dim=1, episode_limit=20, has_win=True)

    def reset(self, key):
        return CoinState(jnp.where(jax.random.bernoulli(key), 1, 20), jnp.int32(0))

    def step(self, state, action, key):
        step = state.step + 1
        ended = step == state.limit
        outcome = Outcome(
            jnp.float32(1), ended & (state.limit == 1), ended & (state.limit > 1), {"won": ended & (state.limit == 1)}
        )
        return state._replace(step=step), outcome

    def observe(self, state):
        shown = state.limit[None].astype(jnp.float32)
        return Observation(shown[None], shown, jnp.ones((1, 2), bool), jnp.ones(1, bool))


@pytest.mark.parametrize(("episodes", "worlds"), [(10, 4), (7, 16), (64, 64), (65, 8), (3, 1)])
def test_exactly_so_many_episodes(episodes, worlds, key):
    played = evaluator(probe.Timeout(), policy(at_random), episodes, worlds)((), key)
    assert [each.shape for each in played[:3]] == [(episodes,)] * 3 and played.lost == 0
    assert (played.returns == 5).all() and (played.lengths == 5).all() and not played.won.any()


def test_short_episodes_do_not_count_more_than_long_ones(key):
    played = evaluator(Coin(), policy(at_random), 2048, 256)((), key)
    assert (played.won == (played.lengths == 1)).all() and (played.returns == played.lengths).all()
    assert abs(played.won.mean() - 0.5) < 4 * 0.5 / np.sqrt(2048)


def test_every_policy_meets_the_same_episodes(key):
    def other(decision, carry, key):
        return jnp.ones_like(decision.last_action), carry

    lengths = [evaluator(Coin(), policy(each), 60, 7)((), key).lengths for each in (at_random, other)]
    assert (lengths[0] == lengths[1]).all() and len(set(lengths[0])) == 2


def test_episodes_do_not_depend_on_how_worlds_lie_on_devices(key, monkeypatch):
    found = []
    for devices in (1, 2):
        monkeypatch.setattr(sys.modules["limbeck.evaluate"], "usable_devices", lambda worlds, n=devices: n)
        found.append(evaluator(Coin(), policy(at_random), 48, 8)((), key).lengths)
    assert (found[0] == found[1]).all() and len(set(found[0])) == 2


def test_memory_is_reset_and_kept_where_it_should_be(key):
    player = policy(remember, init_carry=lambda n: jnp.full((n, 2), jnp.nan))
    played = evaluator(probe.Switch(), player, 40, 8)((), key)
    assert (played.returns == 1).all() and played.won.all() and (played.lengths == 4).all()


def test_first_decision_has_no_last_action(key):
    def look(decision, carry, key):
        legal = (decision.last_action == -1).all(-1) == decision.is_first
        return jnp.where(legal[:, None], 1, 0) * jnp.ones((1, 2), jnp.int32) + jnp.array([[0, 1]]), carry

    assert evaluator(probe.Matrix(), policy(look), 12, 4)((), key).won.all()


def test_a_policy_sees_its_view_only(key):
    seen = []

    def look(decision, carry, key):
        seen.append({name for name, value in decision._asdict().items() if value is not None})
        return at_random(decision, carry, key)

    for view in (LOCAL, PRIVILEGED):
        evaluator(probe.Lever(), policy(look, view), 2, 2)((), key)
    assert seen[0] == set(LOCAL) and seen[-1] == set(PRIVILEGED)


def test_reading_the_state_without_the_right_to_fails(key):
    with pytest.raises(AttributeError):
        evaluator(probe.Lever(), policy(read_the_state, LOCAL), 2, 2)((), key)


def test_explore_and_params_reach_the_policy(key):
    def act(params, carry, decision, key, explore):
        return jnp.where(explore > 0.5, params["a"], 0) * jnp.ones((decision.obs.shape[0], 2), jnp.int32), carry

    run = evaluator(probe.Matrix(), Policy(act, LOCAL, lambda p: p, lambda n: ()), 4, 4)
    payoff = np.float32(probe.Matrix().payoff())
    assert (run({"a": jnp.int32(1)}, key, 1.0).returns == payoff[1, 1]).all()
    assert (run({"a": jnp.int32(1)}, key).returns == payoff[0, 0]).all()


def test_table(key):
    policies = {"local": (policy(at_random), jnp.ones((2, 3))), "run:teacher": (policy(read_the_state, PRIVILEGED), jnp.ones(5))}
    table = evaluate(probe.Lever(), policies, episodes=64, key=key, worlds=16, teacher="run:teacher")
    student, teacher = json.loads(table.to_json())["rows"]
    assert (teacher["name"], teacher["policy"], student["name"], student["policy"]) == ("run", "teacher", "local", "local")
    assert teacher["win_rate"] == 1 and teacher["win_rate_ci"][0] > 0.9 and teacher["retention"] == 1
    assert teacher["return"] == pytest.approx(4) and teacher["episodes"] == 64 and teacher["length"] == 4
    assert student["return_ci"][0] < student["return"] < student["return_ci"][1] < 2.5
    assert student["retention"] == student["win_rate"] < 0.2
    assert (student["parameters"], teacher["parameters"], student["flops"]) == (6, 5, 0)
    assert student["teacher"] == "run:teacher" and student["parameters_ratio"] == 5 / 6 and teacher["parameters_ratio"] == 1
    assert student["flops_ratio"] is None, "nothing is not so many times fewer"
    assert table.episodes["local"].returns.shape == (64,)
    console = rich.console.Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table.rich("Lever"))
    text = console.export_text()
    assert "run teacher" in text and "100 [" in text and "kept %" in text and "steps/s" not in text


def test_the_table_says_how_many_times_fewer(key):
    def product(n):
        def act(params, carry, decision, key, explore):
            q = decision.obs @ params["in"] @ params["out"]
            return jnp.where(decision.avail_actions, q[..., :1], -jnp.inf).argmax(-1), carry

        env = probe.Timeout()
        return Policy(act, LOCAL, lambda p: p, lambda n: ()), {"in": jnp.ones((env.spec.obs_dim, n)), "out": jnp.ones((n, 1))}

    alone = evaluate(probe.Timeout(), {"student": product(3)}, episodes=2, key=key)
    assert "flops_ratio" not in alone.rows[0] and "fewer" not in str(alone), "no teacher, nothing to compare with"
    table = evaluate(probe.Timeout(), {"teacher": product(30), "student": product(3)}, episodes=2, key=key)
    assert [row["flops_ratio"] for row in table.rows] == [1, 10] and [row["parameters_ratio"] for row in table.rows] == [1, 10]
    assert "fewer" in str(table) and "10.0" in str(table)


def test_a_world_without_victories_is_judged_by_return(key):
    table = evaluate(probe.Timeout(), {"a": (policy(at_random), ())}, episodes=8, key=key, teacher="a")
    row = table.rows[0]
    assert row["win_rate"] is None and row["win_rate_ci"] is None and row["retention"] == 1 and "random_return" not in row
    assert json.loads(table.to_json())["rows"][0]["return"] == 5


class Toll:
    """Three steps; each of two agents pays 1 for the action 0, 2 for 1 and 3 for 2, and nothing else happens."""

    def __init__(self, **facts):
        self.spec = EnvSpec("mine/toll", 2, 3, obs_dim=1, state_dim=1, episode_limit=3, **facts)

    def reset(self, key):
        return jnp.int32(0)

    def step(self, state, action, key):
        return state + 1, Outcome(
            -(1.0 + action).sum(), jnp.array(False), state + 1 == 3, {"won": jnp.array(self.spec.has_win) & (state + 1 == 3)}
        )

    def observe(self, state):
        return Observation(jnp.zeros((2, 1)), jnp.zeros(1), jnp.ones((2, 3), bool), jnp.ones(2, bool))


def always(*actions):
    return policy(lambda decision, carry, key: (jnp.broadcast_to(jnp.array(actions), decision.last_action.shape), carry)), ()


TEAMS = {"teacher": always(0, 0), "student": always(0, 1), "worse": always(2, 2)}  # they return -6, -9 and -18; at random, -12


def test_where_returns_may_be_negative_retention_is_counted_from_random_play(key):
    table = evaluate(Toll(negative_returns=True), TEAMS, episodes=64, key=key)
    teacher, student, worse = table.rows
    nothing = teacher["random_return"]
    spread = np.sqrt(6 * 2 / 3 / 64)  # six draws of variance 2/3 in each of 64 episodes
    assert abs(nothing + 12) < 4 * spread and {row["random_return"] for row in table.rows} == {nothing}
    assert teacher["retention"] == 1
    assert student["retention"] == pytest.approx((-9 - nothing) / (-6 - nothing)) and 0.4 < student["retention"] < 0.6
    assert worse["retention"] == pytest.approx((-18 - nothing) / (-6 - nothing)) and worse["retention"] < -0.5
    low, high = student["retention_ci"]
    assert low < student["retention"] < high, "how well random play is known is part of it"
    assert f"r = {nothing:.1f} is what random play returns" in " ".join(str(table).split())


def test_random_play_counts_only_where_it_is_needed(key):
    teacher = {"teacher": TEAMS["teacher"]}
    alone = evaluate(Toll(negative_returns=True), {"student": TEAMS["teacher"]}, episodes=4, key=key).rows[0]
    assert "random_return" not in alone and "retention" not in alone, "no teacher, no retention"
    won = evaluate(Toll(negative_returns=True, has_win=True), teacher, episodes=4, key=key)
    assert won.rows[0]["retention"] == 1 and "random_return" not in won.rows[0] and "random" not in str(won), (
        "wins are counted from 0"
    )
    undeclared = evaluate(Toll(), teacher, episodes=4, key=key).rows[0]
    assert undeclared["retention"] is None and "random_return" not in undeclared
    told = evaluate(Toll(), teacher | {"student": TEAMS["student"]}, episodes=4, key=key, random_return=-10.0).rows[1]
    assert told["retention"] == pytest.approx(0.25) and told["random_return"] == -10


def test_random_play_takes_what_is_available(key):
    played = evaluator(Toll(), AT_RANDOM[0], 200, 50)(AT_RANDOM[1], key)
    assert abs(played.returns.mean() + 12) < 4 * 2 / np.sqrt(200) and len(set(played.returns)) > 5
    only = Toll()
    only.observe = lambda state: Toll().observe(state)._replace(avail_actions=jnp.array([[True, False, False]] * 2))
    assert (evaluator(only, AT_RANDOM[0], 4, 4)((), key).returns == -6).all()


def test_retention_of_nothing_is_null():
    spec = Coin.spec
    never = Episodes(np.zeros(4), np.ones(4), np.zeros(4, bool))
    assert retention(never, never, spec) == {"retention": None, "retention_ci": None}


def test_bad_input():
    with pytest.raises(UnknownName, match="unknown teacher 'b'"):
        evaluate(probe.Timeout(), {"a": (policy(at_random), ())}, teacher="b")
    for sizes in ((0, 1), (1, 0), (-3, 2)):
        with pytest.raises(BadSetting, match="at least 1 episode"):
            evaluator(probe.Timeout(), policy(at_random), *sizes)
