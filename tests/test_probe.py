"""What the probe games say about themselves, checked by playing them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.envs import probe
from limbeck.envs.base import VmapBatch
from limbeck.envs.hunt import CATCH
from limbeck.errors import BadSetting, UnknownName

EPISODES = 2048


def play(env, choose, key, episodes=EPISODES):
    """Returns [episodes] of whole episodes in which `choose(observations so far, key)` picks actions [B, N]."""
    batch = VmapBatch(env)
    state = batch.reset(jax.random.split(key, episodes))
    total, won, running, seen = 0.0, False, True, []
    for t in range(env.spec.episode_limit):
        key_act, key_step = jax.random.split(jax.random.fold_in(key, t))
        seen.append(batch.observe(state))
        state, outcome = batch.step(state, choose(seen, key_act), jax.random.split(key_step, episodes))
        total, won = total + running * outcome.reward, won | running & outcome.info["won"]
        running = running & ~(outcome.terminated | outcome.truncated)
    assert not running.any()
    return np.asarray(total), np.asarray(won)


def at_random(seen, key):
    return jax.random.categorical(key, jnp.where(seen[-1].avail_actions, 0.0, -jnp.inf))


@pytest.mark.parametrize("name", probe.WORLDS)
def test_random_return_is_what_random_play_brings(name, key):
    env = probe.WORLDS[name]()
    returns, _ = play(env, at_random, key)
    assert abs(returns.mean() - env.random_return) < 4 * returns.std() / np.sqrt(EPISODES) + 1e-6


@pytest.mark.parametrize("name", probe.WORLDS)
def test_optimum_is_above_local_optimum_is_above_random(name):
    env = probe.WORLDS[name]()
    assert env.optimum >= env.local_optimum >= env.random_return


@pytest.mark.parametrize("game", probe.GAMES)
def test_a_game_is_won_by_its_one_best_joint_action(game, key):
    env = probe.Matrix(game)
    payoff = np.array(env.payoff())
    actions = jnp.arange(9)
    returns, won = play(env, lambda seen, key: jnp.stack([actions // 3, actions % 3], axis=1), key, episodes=9)
    np.testing.assert_array_equal(returns, payoff.astype(np.float32).reshape(-1))
    assert won.sum() == 1 and returns[won] == env.optimum == payoff.max()


def test_each_half_of_the_matrix_optimum_is_always_best():
    payoff = np.array(probe.Matrix().payoff())
    assert (payoff.argmax(axis=0) == 1).all() and (payoff.argmax(axis=1) == 2).all()


@pytest.mark.parametrize("game", ["nonmonotonic", "decoys"])
def test_half_of_the_optimum_is_the_worst_beside_a_partner_who_tries_things_out(game):
    payoff = np.array(probe.Matrix(game).payoff())
    assert (payoff == payoff.T).all() and payoff.argmax() == 0
    assert payoff.mean(axis=1).argmin() == 0, "on average over the partner's actions"
    assert payoff[0, 0] > payoff[1, 0] and payoff[0, 1] < payoff[1, 1], "which action is better depends on the partner's"


def test_decoys_are_left_by_nobody_alone():
    payoff = np.array(probe.Matrix("decoys").payoff())
    stable = (payoff == payoff.max(axis=0)) & (payoff == payoff.max(axis=1, keepdims=True))
    assert sorted(payoff[stable]) == [6, 6, 8]


def test_matrix_is_not_additive():
    payoff = np.array(probe.Matrix().payoff())
    additive = payoff.mean(axis=1, keepdims=True) + payoff.mean(axis=0, keepdims=True) - payoff.mean()
    assert np.abs(payoff - additive).max() > 0.05


def test_switch_is_won_by_remembering_the_first_decision(key):
    def remember(seen, key):
        at_the_end = seen[-1].obs[..., 3] == 1
        return jnp.where(at_the_end, 1 + seen[0].obs[..., 2].astype(int), 0)

    returns, won = play(probe.Switch(delay=4), remember, key)
    assert (returns == 1).all() and won.all()


def test_switch_without_memory_is_a_coin_toss(key):
    def forget(seen, key):
        return jnp.where(seen[-1].avail_actions[..., 0], 0, 1 + seen[-1].obs[..., 2].astype(int))

    assert abs(play(probe.Switch(), forget, key)[0].mean() - 0.5) < 0.05


def test_switch_allows_waiting_only_before_the_end(key):
    env = probe.Switch(delay=2)
    state = env.reset(key)
    masks = []
    for _ in range(3):
        masks.append(np.asarray(env.observe(state).avail_actions[0]).tolist())
        state, _ = env.step(state, jnp.zeros(2, jnp.int32), key)
    assert masks == [[True, False, False]] * 2 + [[False, True, True]]


def test_switch_shows_each_light_in_its_owners_slot(key):
    env = probe.Switch()
    seen = env.observe(env.reset(key))
    for agent, (start, stop) in enumerate(env.spec.state_slots):
        assert seen.state[start:stop] == seen.obs[agent, 2]


def slots(seen, env):
    return seen[-1].obs[..., : env.n_agents].argmax(-1)


def through_the_state(env):
    def choose(seen, key):
        secrets = seen[-1].state.reshape(-1, env.n_agents, env.levers).argmax(-1)
        return jnp.take_along_axis(secrets, slots(seen, env), axis=1)

    return choose


def locally(env):
    """The best that one observation allows: the deciphered hint; without one, any lever is as good as another."""

    def choose(seen, key):
        hint, cipher = jnp.split(seen[-1].obs[..., env.n_agents :], 2, axis=-1)
        return (hint.argmax(-1) - cipher.argmax(-1)) % env.levers

    return choose


@pytest.mark.parametrize("build", [probe.Lever, probe.whisper])
def test_lever_is_solved_by_reading_the_state_through_the_own_observation(build, key):
    env = build()
    returns, won = play(env, through_the_state(env), key)
    np.testing.assert_allclose(returns, env.optimum, rtol=1e-6)
    assert won.all()


def test_lever_lists_the_secrets_as_nobodys(key):
    env = probe.Lever()
    assert env.spec.state_slots is None and len(env.spec.other_slots) == env.n_agents
    state = env.reset(key)
    for secret, (start, stop) in zip(state.secret, env.spec.other_slots, strict=True):
        assert env.observe(state).state[start:stop].argmax() == secret


@pytest.mark.parametrize("build", [probe.Lever, probe.whisper, lambda: probe.Lever(hint=0.0)])
def test_lever_cannot_be_solved_better_locally(build, key):
    env = build()
    returns, _ = play(env, locally(env), key)
    assert abs(returns.mean() - env.local_optimum) < 4 * returns.std() / np.sqrt(EPISODES) + 1e-6


def test_state_alone_does_not_solve_the_lever(key):
    """A slot read without knowing whose it is: right only by chance."""
    env = probe.Lever()

    def own_number(seen, key):
        return seen[-1].state.reshape(-1, env.n_agents, env.levers).argmax(-1)

    expected = env.length * (1 / env.n_agents + (1 - 1 / env.n_agents) / env.levers)
    assert abs(play(env, own_number, key)[0].mean() - expected) < 0.1 < env.optimum - expected


def test_timeout_ends_by_truncation_only_and_one_agent_falls(key):
    env = probe.Timeout(length=4, casualty=2)
    state, alive, ends = env.reset(key), [], []
    for _ in range(4):
        now = env.observe(state)
        alive.append(bool(now.alive[1]))
        assert bool(now.alive[1]) or now.avail_actions[1].tolist() == [True, False, False]
        state, outcome = env.step(state, jnp.array([1, 0]), key)
        ends.append((bool(outcome.terminated), bool(outcome.truncated)))
    assert alive == [True, True, False, False]
    assert ends == [(False, False)] * 3 + [(False, True)]


def hunting(env, ready):
    """Both go to the prey's cell; there, whoever is `ready(observation)` catches."""

    def choose(seen, key):
        _, prey, partner = jnp.split(seen[-1].obs, [env.cells, 3 * env.cells - 1], axis=-1)
        distance = prey.argmax(-1) - (env.cells - 1)
        arrived = jnp.where(ready(partner), CATCH, 2)
        return jnp.where(distance < 0, 0, jnp.where(distance > 0, 1, arrived))

    return choose


def together(partner):
    return partner[..., partner.shape[-1] // 2] == 1


@pytest.mark.parametrize("settings", [{}, {"cells": 9, "limit": 9}, {"cells": 3, "sight": 0, "punishment": 4.0}])
def test_hunt_is_always_won_by_what_each_sees_alone(settings, key):
    env = probe.Hunt(**settings)
    returns, won = play(env, hunting(env, together), key)
    assert (returns == env.local_optimum).all() and won.all()


def test_hunt_costs_nothing_without_a_catch_and_more_the_more_one_tries_alone(key):
    env = probe.Hunt(punishment=0.5)
    returns, won = play(env, hunting(env, lambda partner: jnp.zeros(partner.shape[:-1], bool)), key)
    assert (returns == 0).all() and not won.any()
    returns, won = play(env, hunting(env, lambda partner: jnp.arange(2) == 0), key)
    assert not won.any()
    alone = np.unique(returns).tolist()
    assert alone == [-0.5 * catches for catches in range(10, 5, -1)], "from the prey's cell on: 0 to 4 steps away, 10 in all"


@pytest.mark.parametrize("settings", [{"cells": 2, "limit": 3}, {"cells": 7, "punishment": 0.3}])
def test_hunt_knows_its_random_return_for_other_settings_too(settings, key):
    env = probe.Hunt(**settings)
    returns, _ = play(env, at_random, key)
    assert abs(returns.mean() - env.random_return) < 4 * returns.std() / np.sqrt(EPISODES)


def test_hunt_teaches_against_catching_beside_a_partner_who_tries_everything(key):
    """Whatever the hunt is worth when it goes on, from nothing to the optimum."""
    env = probe.Hunt()
    state = env.reset(key)._replace(agents=jnp.array([2, 3]), prey=jnp.int32(2))
    outcomes = [[env.step(state, jnp.array([own, other]), key)[1] for other in range(4)] for own in range(4)]
    for onwards in (0.0, 0.5, 1.0):
        value = np.array([[o.reward + onwards * ~o.terminated for o in row] for row in outcomes])
        assert value[CATCH, CATCH] == value.max() == 1
        own = value.mean(axis=1)
        assert own[CATCH] <= own[:CATCH].min() - 0.25


def test_hunt_ends_by_the_catch_or_by_truncation(key):
    env = probe.Hunt(limit=5)
    state = env.reset(key)._replace(agents=jnp.array([0, 2]), prey=jnp.int32(1))
    _, outcome = env.step(state._replace(step=jnp.int32(4)), jnp.array([CATCH, CATCH]), key)
    assert outcome.terminated and not outcome.truncated and outcome.info["won"]
    after, outcome = env.step(state._replace(step=jnp.int32(4)), jnp.array([0, 1]), key)
    assert outcome.truncated and not outcome.terminated and after.agents.tolist() == [0, 3]


def test_hunt_shows_the_partner_within_sight_only_and_lists_everybody_in_the_state(key):
    env = probe.Hunt()
    state = env.reset(key)._replace(agents=jnp.array([1, 2]), prey=jnp.int32(4))
    seen = env.observe(state)
    assert seen.obs[:, -3:].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert not env.observe(state._replace(agents=jnp.array([0, 2]))).obs[:, -3:].any()
    assert [seen.state[start:stop].argmax() for start, stop in (*env.spec.state_slots, *env.spec.other_slots)] == [1, 2, 4]
    assert seen.avail_actions[:, CATCH].tolist() == [False, False]
    assert env.observe(state._replace(prey=jnp.int32(3))).avail_actions[:, CATCH].tolist() == [False, True]


@pytest.mark.parametrize(
    "build",
    [
        lambda: probe.Switch(delay=0),
        lambda: probe.Lever(hint=2.0),
        lambda: probe.Timeout(length=-1),
        lambda: probe.Hunt(cells=0),
        lambda: probe.Hunt(punishment=-1.0),
        lambda: probe.Hunt(sight=-1),
        lambda: probe.Hunt(limit=4),
    ],
)
def test_impossible_settings_are_refused(build):
    with pytest.raises(BadSetting, match="is"):
        build()


def test_an_unknown_game_names_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'decoys'"):
        probe.Matrix("decoy")
