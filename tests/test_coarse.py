"""Networks multiplied in bfloat16 while they learn: as precise as that is, with exact gradients; who acts is float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated
from test_methods import played
from test_unroll import SPEC, B, at, decisions

from limbeck.envs import probe
from limbeck.errors import BadSetting, UnknownName
from limbeck.methods import mappo, ptde
from limbeck.nets import coarse
from limbeck.nets.agents import RecurrentAgent
from limbeck.nets.coarse import Coarse, multiplied_in
from limbeck.nets.products import coarse_product
from limbeck.nets.teams import one_each
from limbeck.nets.unroll import decide, unroll, walk
from limbeck.train import train


def apart(found, expected):
    """The largest error, as a share of the largest number."""
    return float(jnp.abs(found - expected).max() / jnp.abs(expected).max())


@pytest.mark.parametrize(("rows", "width", "out"), [((3, 40), 24, 7), ((300,), 5, 48), ((2, 1), 16, 1)])
def test_a_product_and_its_gradients_err_by_their_rounding_alone(rows, width, out, key):
    keys = jax.random.split(key, 3)
    x, weight, g = (jax.random.normal(k, size) for k, size in zip(keys, ((*rows, width), (out, width), (*rows, out)), strict=True))

    def both(product):
        value, back = jax.vjp(product, x, weight)
        return value, *back(g)

    found, expected = (jax.jit(lambda p=p: both(p))() for p in (coarse_product, lambda x, weight: x @ weight.T))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape and one.dtype == jnp.float32
        assert 0 < apart(one, other) < 0.02


def test_whole_numbers_are_multiplied_exactly():
    x, weight = jnp.array([[1.0, 2.0], [3.0, -4.0], [0.0, 5.0]]), jnp.array([[1.0, 1.0], [2.0, 0.0]])
    np.testing.assert_array_equal(jax.jit(coarse_product)(x, weight), [[3, 2], [-1, 6], [5, 0]])
    by_weight = jax.jit(jax.grad(lambda w: (coarse_product(x, w) * jnp.array([[1.0, 10.0]])).sum()))(weight)
    np.testing.assert_array_equal(by_weight, [[4, 3], [40, 30]])


def test_the_gradient_of_a_walk_is_that_of_its_steps(key, monkeypatch):
    """Written by hand, it is compared in float32 with what differentiating step by step gives."""
    monkeypatch.setattr(coarse, "turned", lambda x: x.T)
    monkeypatch.setattr(coarse, "rounded", lambda x: x)
    monkeypatch.setattr(coarse, "coarsely", lambda x, y: x @ y)
    monkeypatch.setattr(coarse, "of_weight", lambda g, x: g.reshape(-1, g.shape[-1]).T @ x.reshape(-1, x.shape[-1]))
    agent = RecurrentAgent(SPEC, 6, key)
    seen = decisions(key, 9)
    drive, _ = agent.encode(seen, key)
    drive, hidden = jax.tree.map(lambda x: 3.0 * x, drive), jax.random.normal(key, (B, SPEC.n_agents, 6))
    weighs = jax.random.normal(jax.random.key(1), (9, *hidden.shape))

    def total(products, agent, drive, hidden):
        return (weighs * walk(multiplied_in(products, agent), drive, hidden, seen.is_first)).sum()

    found, expected = (
        jax.value_and_grad(partial(total, products), argnums=(0, 1, 2))(agent, drive, hidden)
        for products in ("bfloat16", "float32")
    )
    assert seen.is_first.any() and not seen.is_first.all()
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("many", [False, True])
def test_a_network_and_a_team_say_nearly_the_same_in_bfloat16(many, key):
    nets = [RecurrentAgent(SPEC, 16, k) for k in jax.random.split(key, SPEC.n_agents)]
    net = one_each(tuple(nets)) if many else nets[0]
    seen, hidden = decisions(key, 20), jnp.zeros((B, SPEC.n_agents, 16))

    def values(net, products):
        return unroll(multiplied_in(products, net), hidden, seen, key).q

    def gradient(products):
        return jax.jit(jax.value_and_grad(lambda net: (values(net, products) ** 2).sum()))(net)

    found, expected = gradient("bfloat16"), gradient("float32")
    assert 0 < apart(found[0], expected[0]) < 0.02
    for one, other in zip(jax.tree.leaves(found[1]), jax.tree.leaves(expected[1]), strict=True):
        assert apart(one, other) < 0.05
    assert multiplied_in("float32", net) is net


def test_who_acts_multiplies_in_float32(key):
    agent = RecurrentAgent(SPEC, 16, key)
    first, hidden = at(decisions(key, 1), 0), jax.random.normal(key, (B, SPEC.n_agents, 16))
    step = Coarse(agent).step(agent.encode(first, key)[0], hidden)
    np.testing.assert_array_equal(step, agent.step(agent.encode(first, key)[0], hidden))
    algorithm = mappo.build(SPEC, products="bfloat16", hidden=16)
    params = jax.jit(algorithm.init)(key)
    found = jax.jit(lambda p: decide(algorithm.policies["greedy"].agent(p), hidden, first, key))(params)
    expected = jax.jit(lambda p: decide(p.agent, hidden, first, key))(params)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("shared", gated([True, False]))
def test_a_light_is_remembered_in_bfloat16(shared):
    env = probe.Switch(delay=2)
    sizes = {"hidden": 16, "segment": 16, "chunk": 8, "lr": 3e-3, "critic_lr": 3e-3, "gamma": 0.9}
    trained = train(env, mappo.build(env.spec, products="bfloat16", shared=shared, **sizes), steps=60_000, worlds=32, devices=1)
    assert played(env, trained) > 0.98


def test_what_cannot_be_multiplied_so_is_refused():
    with pytest.raises(UnknownName, match="products 'float8'"):
        mappo.build(SPEC, products="float8")
    with pytest.raises(BadSetting, match="leave them at float32"):
        ptde.teacher_on_mappo(SPEC, products="bfloat16")
