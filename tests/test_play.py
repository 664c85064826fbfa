"""An episode to watch is the one that the evaluation plays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.envs import probe, smac
from limbeck.envs.smac.scripted import baselines
from limbeck.evaluate import evaluator
from limbeck.methods import METHODS
from limbeck.play import record


def untrained(env):
    method = METHODS["qmix"]
    algorithm = method.build(env.spec, method.settings)
    return algorithm.policies[algorithm.main], algorithm.init(jax.random.key(3))


def same_episode(env, policy, params, worlds):
    key = jax.random.key(11)
    played, recorded = evaluator(env, policy, worlds, worlds)(params, key), record(env, policy, params, key)
    assert len(recorded.moments) == len(recorded.rewards) + 1 == played.lengths[0] + 1
    assert recorded.rewards.sum() == pytest.approx(float(played.returns[0]), abs=1e-4)
    assert recorded.won == played.won[0]
    return recorded


@pytest.mark.parametrize("script", ["nearest", "focus"])
def test_a_scripts_battle_is_the_first_of_the_evaluation(script):
    env = smac.make("3m")
    recorded = same_episode(env, *baselines(env)[script], worlds=8)
    assert recorded.terminated


def test_a_networks_battle_is_the_first_of_the_evaluation():
    env = smac.make("3m")
    recorded = same_episode(env, *untrained(env), worlds=4)
    first = recorded.moments[0]
    assert first.bodies.pos.shape == (2, 6) and isinstance(first.bodies.pos, np.ndarray), "one world, by itself"


def test_so_is_that_of_a_world_without_a_layout_of_its_own():
    env = probe.Timeout()
    recorded = same_episode(env, *untrained(env), worlds=4)
    assert not recorded.terminated and len(recorded.rewards) == 5


def test_both_sides_begin_alike_and_only_what_is_asked_for_is_kept():
    env = smac.make("3m")
    near, focus = (record(env, *each, jax.random.key(2), env.snapshot) for each in baselines(env).values())
    for one, other in zip(near.moments[0], focus.moments[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert near.moments[-1]._fields == smac.Snapshot._fields
    other = record(env, *baselines(env)["focus"], jax.random.key(3), lambda state: jnp.sum(state.bodies.pos))
    assert other.moments[0].shape == () and other.moments[0] != near.moments[0].x.sum() + near.moments[0].y.sum()
