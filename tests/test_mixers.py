"""Mixers: by hand, monotone, and with the same best joint action as the agents have one by one."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.methods.value_decomposition import MIXERS, QSettings, greedy
from limbeck.nets.mixers import Independent, Monotonic, Sum
from limbeck.types import EnvSpec

SPEC = EnvSpec("test", n_agents=3, n_actions=4, obs_dim=5, state_dim=6, episode_limit=10)


def qmix(key, spec=SPEC):
    return Monotonic(spec, embed=8, hyper=16, key=key)


def test_vdn_is_the_sum():
    q = jnp.array([[1.0, 2.0, -4.0], [0.5, 0.25, 0.0]])
    np.testing.assert_array_equal(Sum()(q, jnp.zeros((2, 6))), [[-1.0], [0.75]])


def test_independent_learners_keep_a_value_each():
    q = jnp.array([[1.0, 2.0, -4.0], [0.5, 0.25, 0.0]])
    np.testing.assert_array_equal(Independent()(q, jnp.zeros((2, 6))), q)


@pytest.mark.parametrize("seed", range(4))
def test_qmix_never_falls_when_an_agents_value_rises(seed):
    key, key_q, key_s = jax.random.split(jax.random.key(seed), 3)
    mixer = qmix(key)
    q, state = 5 * jax.random.normal(key_q, (200, 3)), 3 * jax.random.normal(key_s, (200, 6))
    slope = jax.vmap(jax.grad(lambda q, s: mixer(q, s)[0]))(q, state)
    assert (slope >= 0).all()
    assert (slope > 0).mean() > 0.99, "and it does rise: a constant would be monotone too"
    ways = jax.vmap(jax.grad(lambda s, q: mixer(q, s)[0]))(state, q)
    assert (ways < 0).any() and (ways > 0).any(), "monotone in the values, not in the state"


@pytest.mark.parametrize("mixer", ["vdn", "qmix"])
def test_the_agents_best_actions_are_the_best_joint_action_by_brute_force(mixer, key):
    keys = jax.random.split(key, 4)
    mix = MIXERS[mixer](SPEC, QSettings(embed=8, hyper=16), keys[0])
    q, state = jax.random.normal(keys[1], (60, 3, 4)), jax.random.normal(keys[2], (60, 6))
    avail_actions = jax.random.bernoulli(keys[3], 0.5, (60, 3, 4)).at[..., 0].set(True)
    # The best of all is often unavailable: make it so that masks matter.
    q = jnp.where(avail_actions, q, q + 3.0)
    chosen = np.asarray(greedy(q, avail_actions))
    joint = np.array(list(itertools.product(range(4), repeat=3)))
    q, avail_actions = np.asarray(q), np.asarray(avail_actions)
    agents = np.arange(3)
    values = np.asarray(mix(jnp.array(q[:, agents, joint]), jnp.repeat(state[:, None], len(joint), 1)))[..., 0]
    legal = avail_actions[:, agents, joint].all(-1)
    values = np.where(legal, values, -np.inf)
    for row in range(60):
        which = (joint == chosen[row]).all(-1).argmax()
        assert legal[row, which]
        assert values[row, which] == pytest.approx(values[row].max(), abs=1e-5)


def test_a_qmix_number_by_hand():
    # Two agents, a state of one number s, two mixing units. ReLU(s) -> weights; all biases zero but where given.
    spec = EnvSpec("test", n_agents=2, n_actions=2, obs_dim=1, state_dim=1, episode_limit=1)
    mixer = Monotonic(spec, embed=2, hyper=1, key=jax.random.key(0))
    mixer = jax.tree.map(jnp.zeros_like, mixer)
    one = jnp.ones((1, 1))
    mixer = eqx.tree_at(
        lambda m: (
            *(m.w1.first.weight, m.w1.second.weight, m.b1.weight, m.b1.bias),
            *(m.w2.first.weight, m.w2.second.weight),
            *(m.b2.first.bias, m.b2.second.weight),
        ),
        mixer,
        (
            *(one, jnp.array([[1.0], [-2.0], [3.0], [0.5]]), jnp.array([[1.0], [-20.0]]), jnp.array([0.5, 1.0])),
            *(one, jnp.array([[-1.0], [4.0]])),
            *(jnp.array([1.0, 2.0]), jnp.array([[10.0, -3.0]])),
        ),
    )
    # s = 2:  |W1| = [[2, 4], [6, 1]] (a row per agent),  b1 = [2.5, -39],  |w2| = [2, 8],  b2 = 10 - 6 = 4
    # q = (1, -0.5):  q W1 + b1 = [2 - 3 + 2.5, 4 - 0.5 - 39] = [1.5, -35.5];  ELU = [1.5, -1 (to e^-35)]
    # Q_tot = 2 * 1.5 + 8 * -1 + 4 = -1
    assert mixer(jnp.array([1.0, -0.5]), jnp.array([2.0])) == pytest.approx(-1.0, abs=1e-6)


def test_axes_before_the_agents_pass_through(key):
    mixer = qmix(key)
    q, state = jax.random.normal(key, (5, 2, 3)), jax.random.normal(key, (5, 2, 6))
    together = mixer(q, state)
    assert together.shape == (5, 2, 1)
    np.testing.assert_allclose(together[3, 1], mixer(q[3, 1], state[3, 1]), rtol=1e-5)
