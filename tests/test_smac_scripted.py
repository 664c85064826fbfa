"""The scripted teams: legal, usable in an evaluation, and as good as they should be where that is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

from limbeck.envs.smac import make
from limbeck.envs.smac.scripted import baselines, look, nearest
from limbeck.evaluate import evaluate, evaluator
from limbeck.types import Decision


def test_they_stand_in_a_table():
    env = make("3s_vs_5z")
    table = evaluate(env, baselines(env), episodes=32, worlds=32)
    rate = {row["name"] or row["policy"]: row["win_rate"] for row in table.rows}
    assert rate["focus"] > 0.9 and rate["nearest"] < 0.1  # zealots can be outrun, not outfought


@pytest.mark.parametrize("name", gated(["MMM", "2m_vs_1z", "terran_5_vs_5", "protoss_5_vs_5"], "2m_vs_1z"))
def test_they_only_do_what_is_open(name):
    env, n_worlds = make(name), 4
    worlds = env.batch()

    for policy, params in baselines(env).values():

        def step(state, key, policy=policy, params=params):
            seen = worlds.observe(state)
            first = jnp.zeros(n_worlds, bool)
            decision = Decision.about(seen, jnp.zeros(seen.alive.shape, jnp.int32), first).within(policy.view)
            action, _ = policy.act(params, (), decision, key, jnp.float32(0))
            state, _ = worlds.step(state, action, jax.random.split(key, n_worlds))
            return state, (jnp.take_along_axis(seen.avail_actions, action[..., None], -1).all(), action)

        start = worlds.reset(jax.random.split(jax.random.key(0), n_worlds))
        _, (legal, action) = jax.jit(lambda s, step=step: jax.lax.scan(step, s, jax.random.split(jax.random.key(1), 60)))(start)
        assert bool(legal.all())
        if name == "MMM":
            assert (np.array(action)[..., 9] >= 6).any()  # the medivac heals


@pytest.mark.long
def test_healing_wins_battles():
    env = make("MMM")
    (policy, params), idle = baselines(env)["nearest"], 9

    def lazy(params, carry, decision, key, explore):
        action, carry = policy.act(params, carry, decision, key, explore)
        return action.at[:, idle].set(jnp.where(decision.alive[:, idle], 1, 0)), carry

    without = policy.__class__(lazy, policy.view, policy.agent, policy.init_carry)
    won = [evaluator(env, each, 128, 64)(params, jax.random.key(0), 0.0).won.mean() for each in (policy, without)]
    assert won[0] > won[1] + 0.1


@pytest.mark.long
def test_the_spine_crawler_can_be_beaten():
    """Not by shooting on, but by those who withdraw before they fall and come back together, with their shields."""
    env = make("2s_vs_1sc")
    (script, params), south = baselines(env)["nearest"], 3

    def patient(params, out, decision, key, explore):
        scene = look(env, decision)
        points, shield, away = scene.points[:, :2], decision.state[:, np.array([4, 9])] * 80, scene.distance[:, :, 0]
        out = (out | (points < 50)) & ~((shield > 75) | ~decision.alive).all(1, keepdims=True)
        relieved = (shield < 1) & (points < points[:, ::-1] - 40) & (points[:, ::-1] > 50) & (away < 8.6)
        retreat = jnp.where(decision.avail_actions[:, :, south] & (away <= 11), south, 1)
        action = jnp.where(out | relieved, retreat, nearest(env, scene))
        return jnp.where(decision.alive, action, 0).astype(jnp.int32), out

    withdraw = script.__class__(patient, script.view, script.agent, lambda worlds: jnp.zeros((worlds, 2), bool))
    plain, patience = (evaluator(env, each, 256, 256)(params, jax.random.key(0), 0.0) for each in (script, withdraw))
    assert plain.won.sum() == 0 and plain.returns.max() < 10
    assert patience.won.sum() > 0 and patience.returns.mean() > plain.returns.mean() + 4
