"""Ways to make the state an agent's own: numbers by hand, what they depend on, what they cost, and latents that are held."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

import limbeck as lb
from limbeck.envs import probe
from limbeck.errors import BadSetting, NotOffered
from limbeck.evaluate import evaluator
from limbeck.methods import ptde
from limbeck.nets.agents import RecurrentAgent, local_dim, local_input
from limbeck.nets.broadcast import Broadcast
from limbeck.nets.fusion import (
    HEADS,
    FeatureModulation,
    LowRankHypernetwork,
    StateHypernetwork,
    UnitAttention,
    UnitEncoder,
    attention,
    by_head,
)
from limbeck.nets.personalise import (
    CoachLatent,
    DirectLatent,
    Gaussian,
    LocalLatent,
    PersonalisedAgent,
    PersonalisedLatent,
    UnifiedLatent,
)
from limbeck.nets.unroll import unroll
from limbeck.train import train
from limbeck.types import Decision, EnvSpec

# Three agents and two others; the state holds two numbers besides them, one in the middle and one at the end.
SLOTS = {"state_slots": ((0, 2), (2, 4), (5, 7)), "other_slots": ((7, 10), (10, 13))}
SPEC = EnvSpec("test", n_agents=3, n_actions=4, obs_dim=5, state_dim=14, episode_limit=10, **SLOTS)
N, S, D = SPEC.n_agents, SPEC.state_dim, local_dim(SPEC)
H, Z, R, B = 8, 7, 5, 2

FUSIONS = {
    "gip": lambda key: StateHypernetwork(D, S, H, Z, key),
    "lowrank": lambda key: LowRankHypernetwork(D, S, H, Z, R, key),
    "film": lambda key: FeatureModulation(D, S, H, Z, key),
    "attention": lambda key: UnitAttention(SPEC, H, Z, key),
}
every_fusion = pytest.mark.parametrize("make", FUSIONS.values(), ids=FUSIONS)


def inputs(key, *shape):
    key_x, key_state = jax.random.split(key)
    return jax.random.normal(key_x, (*shape, N, D)), jax.random.normal(key_state, (*shape, S))


def set_to(module, **values):
    """The module with all its weights zero but those named: `hidden__weight=...` is `module.hidden.weight`."""
    module = jax.tree.map(jnp.zeros_like, module)
    for path, value in values.items():
        names = path.split("__")

        def where(node, names=names):
            for name in names:
                node = node[int(name)] if name.isdigit() else getattr(node, name)
            return node

        value = jnp.asarray(value, jnp.float32)
        module = eqx.tree_at(where, module, jnp.broadcast_to(value, where(module).shape))
    return module


def elu(x):
    return x if x > 0 else math.expm1(x)


# -- by hand ---------------------------------------------------------------------------------------------------------------

X, STATE = jnp.array([[2.0], [1.0]]), jnp.array([3.0, -1.0])
"""two agents that see one number each, and a state of two"""
OWN = {"hidden__weight": 1, "bias__weight": 1, "bias__bias": -1}
"""h(x) = x, which is 2 and 1; b(x) = x - 1, which is 1 and 0"""


def test_the_hypernetwork_by_hand(key):
    # s T = 3 * 0.5 - 1 * 1 = 0.5 times h: 1 and 0.5;  s M = -1;  with b: 1 and -0.5
    fusion = set_to(StateHypernetwork(1, 2, 1, 1, key), **OWN, tensor=[[[0.5]], [[1.0]]], tensor_bias=[[0.0], [1.0]])
    np.testing.assert_allclose(fusion(X, STATE), [[1.0], [elu(-0.5)]], rtol=1e-6)


def test_the_low_rank_form_by_hand(key):
    # s A = 3 * 1 - 1 * 2 = 1;  h B = 1 and 0.5;  times C = 2: 2 and 1;  s M = -2;  with b: 1 and -1
    factors = {"of_state": [[1.0], [2.0]], "of_hidden": 0.5, "to_out": 2.0}
    fusion = set_to(LowRankHypernetwork(1, 2, 1, 1, 1, key), **OWN, **factors, tensor_bias=[[0.0], [2.0]])
    np.testing.assert_allclose(fusion(X, STATE), [[1.0], [elu(-1.0)]], rtol=1e-6)


def test_modulation_by_hand(key):
    # Linear(s) = 3 * 1 - 1 * 2 - 1.5 = -0.5;  gamma = 1 + h: 3 and 2;  -1.5 and -1, with b: -0.5 and -1
    fusion = set_to(FeatureModulation(1, 2, 1, 1, key), **OWN, gamma__weight=1, read__weight=[[1, 2]], read__bias=-1.5)
    np.testing.assert_allclose(fusion(X, STATE), [[elu(-0.5)], [elu(-1.0)]], rtol=1e-6)


def test_attention_over_units_by_hand(key):
    # Two agents' units and one other of one number each, and one number besides. Only the first of four heads has weights.
    spec = EnvSpec("test", 2, 1, 1, 4, episode_limit=1, state_slots=((0, 1), (1, 2)), other_slots=((2, 3),))
    first, only = [[1.0], [0], [0], [0]], jnp.zeros((4, 4)).at[0, 0].set(1.0)
    made = set_to(
        UnitAttention(spec, 4, 1, key),
        **{"hidden__weight": jnp.zeros((4, 4)).at[0, 0].set(1.0), "query__weight": only, "key__weight": only},
        **{"units__layers__0__weight": first, "units__layers__1__weight": 2 * jnp.array(first)},
        **{"units__slots": jnp.zeros((3, 4)).at[1, 0].set(1.0), "value__weight": only, "out__weight": [[3.0, 0, 0, 0]]},
        **{"rest__weight": -0.5, "bias__weight": [[0, 0, 0, 0.4]]},
    )
    # x_i = [o_i, last action, one-hot of i]; agent 0 asks with 0, agent 1 with log 2.
    x = jnp.array([[0.0, 0, 1, 0], [math.log(2), 0, 0, 1]])
    # Units: 1;  -1 + 1 = 0 by its slot's own vector;  2 * 0.5 = 1.
    state = jnp.array([1.0, -1.0, 0.5, 5.0])
    # Agent 0 looks at all alike: (1 + 0 + 1) / 3. Agent 1: exp(log 2 * unit) = 2, 1, 2, so 0.4 + 0 + 0.4.
    np.testing.assert_allclose(made.weights(x, state)[0], [[1 / 3, 1 / 3, 1 / 3], [0.4, 0.2, 0.4]], rtol=1e-6)
    # Times 3, less 0.5 * 5; agent 1's b(x) is 0.4.
    np.testing.assert_allclose(made(x, state), [[elu(2 - 2.5)], [elu(2.4 - 2.5 + 0.4)]], rtol=1e-5)


def test_the_coach_by_hand(key):
    spec = EnvSpec("test", 2, 1, 1, 3, episode_limit=1, state_slots=((0, 1), (1, 2)), other_slots=((2, 3),))
    head0 = jnp.zeros(HEADS).at[0].set(1.0)[:, None]
    coach = set_to(
        CoachLatent(spec, 1, key),
        **{"units__layers__0__weight": 1, "units__layers__1__weight": 1, "mix__weight": 2},
        **{"query__weight": head0, "key__weight": head0, "value__weight": 1},
        **{"mean__weight": 1, "mean__bias": 0.5, "log_var__weight": 100, "log_var__bias": -1},
    )
    # LeakyReLU, then times 2: units 0, 2 log 2 and -0.02. Agent 0 asks with 0, agent 1 with 2 log 2.
    # Only head 0 asks; the other three look at all units alike.
    units = [0.0, 2 * math.log(2), -0.02]
    alike = sum(units) / 3
    odds = [math.exp(2 * math.log(2) * unit) for unit in units]
    chosen = sum(o * unit for o, unit in zip(odds, units, strict=True)) / sum(odds)
    seen = [alike, (chosen + 3 * alike) / 4]
    mean, var = coach.moments(jnp.zeros((2, local_dim(spec))), jnp.array([0.0, math.log(2), -1.0]))
    np.testing.assert_allclose(mean[:, 0], [s + 0.5 for s in seen], rtol=1e-5)
    np.testing.assert_array_equal(var, jnp.ones((2, 1)))  # 100 * seen - 1 is far above 0, where v is cut
    low = eqx.tree_at(lambda c: c.log_var.weight, coach, -coach.log_var.weight)
    np.testing.assert_allclose(low.moments(X, jnp.array([0.0, math.log(2), -1.0]))[1], math.exp(-10), rtol=1e-5)


# -- what they have in common ----------------------------------------------------------------------------------------------


@every_fusion
def test_leading_axes_pass_through(make, key):
    fusion = make(key)
    x, state = inputs(key, 4, B)
    g = fusion(x, state)
    assert g.shape == (4, B, N, Z)
    np.testing.assert_allclose(g[1, 0], fusion(x[1, 0], state[1, 0]), rtol=1e-4, atol=1e-5)


@every_fusion
def test_what_an_agent_makes_of_the_state_is_its_own(make, key):
    x, state = inputs(key)
    by_x, by_state = jax.jit(jax.jacobian(make(key), (0, 1)))(x, state)  # [agent, Z, agent', D], [agent, Z, S]
    for i in range(N):
        for j in range(N):
            reached = abs(by_x[i, :, j]).max(0) > 0
            assert reached.all() if i == j else not reached.any()
    assert (abs(by_state).max(1) > 0).all(), "all of the state reaches every agent"
    # The same state, read differently: not only b(x) tells the agents apart.
    assert abs(by_state[0] - by_state[1]).max() > 1e-3
    g = make(key)(x, state)
    assert abs(g[0] - g[1]).max() > 1e-3


@every_fusion
def test_every_weight_learns(make, key):
    x, state = inputs(key, 16)
    gradient = jax.jit(jax.grad(lambda fusion: (fusion(x, state) ** 2).sum()))(make(key))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_the_unified_latent_does_not_differ_from_agent_to_agent(key):
    for moment in UnifiedLatent(SPEC, Z, 0.01, key).moments(*inputs(key, 4, B)):
        assert moment.shape == (4, B, N, Z)
        np.testing.assert_array_equal(moment, jnp.broadcast_to(moment[..., :1, :], moment.shape))


# -- the two forms of the hypernetwork -------------------------------------------------------------------------------------


def test_the_contraction_equals_the_built_weight_matrix_of_every_agent_in_value_and_gradient(key):
    hyper = FUSIONS["gip"](key)
    x, state = inputs(key, 4, B)
    weight = jax.random.normal(jax.random.key(1), (4, B, N, Z))

    def contracted(hyper, x, state):
        g = hyper(x, state)
        return (g * weight).sum(), g

    def built(hyper, x, state):
        g = jax.vmap(jax.vmap(lambda x, s: jax.vmap(lambda x: hyper.built(x, s))(x)))(x, state)
        return (g * weight).sum(), g

    with jax.default_matmul_precision("highest"):
        (_, g), gradient = jax.jit(jax.value_and_grad(contracted, (0, 1, 2), has_aux=True))(hyper, x, state)
        (_, g_built), gradient_built = jax.jit(jax.value_and_grad(built, (0, 1, 2), has_aux=True))(hyper, x, state)
    np.testing.assert_allclose(g, g_built, rtol=1e-4, atol=1e-5)
    assert len(jax.tree.leaves(gradient)) == 6 + 2, "tensor and its bias, two layers of two, input and state"
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(gradient_built), strict=True):
        assert abs(a).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def full(low, key):
    """The hypernetwork whose tensor is built from the factors."""
    built = StateHypernetwork(D, S, H, Z, key)
    tensor = jnp.einsum("sr,hr,rz->shz", low.of_state, low.of_hidden, low.to_out)
    parts = lambda f: (f.hidden, f.tensor_bias, f.bias)  # noqa: E731
    return eqx.tree_at(lambda f: (f.tensor, *parts(f)), built, (tensor, *parts(low)))


def test_the_low_rank_form_is_the_hypernetwork_with_the_tensor_of_its_factors(key):
    low = FUSIONS["lowrank"](key)
    x, state = inputs(key)
    with jax.default_matmul_precision("highest"):
        g = low(x, state)
        np.testing.assert_allclose(g, full(low, key)(x, state), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(g, jax.vmap(full(low, key).built, (0, None))(x, state), rtol=1e-4, atol=1e-5)


def test_both_forms_begin_with_tensors_of_the_same_size(key):
    low = LowRankHypernetwork(10, 40, 64, 64, 64, key)
    tensor = jnp.einsum("sr,hr,rz->shz", low.of_state, low.of_hidden, low.to_out)
    assert float(tensor.std()) == pytest.approx(float(StateHypernetwork(10, 40, 64, 64, key).tensor.std()), rel=0.1)
    with pytest.raises(BadSetting, match="rank is 0; it must be at least 1"):
        LowRankHypernetwork(10, 40, 64, 64, 0, key)


# -- attention over units --------------------------------------------------------------------------------------------------


def test_attention_weights_sum_to_one_over_the_units(key):
    x, state = inputs(key, 4, B)
    weights = UnitAttention(SPEC, H, Z, key).weights(x, 10 * state)
    assert weights.shape == (4, B, HEADS, N, 5)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)
    assert abs(weights[..., 0, :, :] - weights[..., 1, :, :]).max() > 0.01, "heads look at different units"


@pytest.mark.parametrize(("one", "two", "of_one", "of_two"), [(0, 2, (0, 2), (5, 7)), (3, 4, (7, 10), (10, 13))])
def test_swapping_two_units_of_a_group_together_with_their_slots_vectors_changes_nothing(one, two, of_one, of_two, key):
    x, state = inputs(key)
    fusion = UnitAttention(SPEC, H, Z, key)
    swapped = state.at[slice(*of_one)].set(state[slice(*of_two)]).at[slice(*of_two)].set(state[slice(*of_one)])
    assert abs(fusion(x, swapped) - fusion(x, state)).max() > 1e-4, "slots are told apart"
    slots = fusion.units.slots
    moved = eqx.tree_at(lambda f: f.units.slots, fusion, slots.at[one].set(slots[two]).at[two].set(slots[one]))
    np.testing.assert_allclose(moved(x, swapped), fusion(x, state), rtol=1e-5, atol=1e-6)


def test_units_are_cut_out_of_the_state_slot_by_slot(key):
    _, state = inputs(key, B)
    units = UnitEncoder(SPEC, H, "who", "what", key)
    encoded = units(state)
    assert encoded.shape == (B, 5, H)
    for u, (start, stop) in enumerate((*SPEC.state_slots, *SPEC.other_slots)):
        expected = state[:, start:stop] @ units.layers[u >= N].weight.T + units.slots[None, u]
        np.testing.assert_allclose(encoded[:, u], expected, rtol=1e-5, atol=1e-6)
    assert UnitAttention(SPEC, H, Z, key).besides == ((4, 5), (13, 14))


def test_a_state_of_nothing_but_units_and_a_world_that_lists_only_others_do_too(key):
    for slots in ({"other_slots": ((8, 14),)}, {"state_slots": None}):
        spec = dataclasses.replace(SPEC, **{"state_slots": ((0, 2), (2, 4), (4, 6))} | {"other_slots": ((6, 14),)} | slots)
        fusion = UnitAttention(spec, H, Z, key)
        assert fusion(*inputs(key)).shape == (N, Z)
    assert UnitAttention(dataclasses.replace(SPEC, state_slots=None, other_slots=((0, 14),)), H, Z, key).rest is None


def test_a_world_without_slots_is_refused_before_training():
    bare = dataclasses.replace(SPEC, state_slots=None, other_slots=())
    text = "personaliser 'attention' reads unit slots, and the state of test has none; use gip, lowrank or film"
    with pytest.raises(NotOffered, match=text) as caught:
        ptde.teacher(bare, personaliser="attention")
    assert caught.value.offers(SPEC) and not caught.value.offers(bare)
    uneven = dataclasses.replace(SPEC, other_slots=((7, 10), (10, 14)))
    with pytest.raises(NotOffered, match="some groups in the state of test mix widths; use gip"):
        ptde.teacher(uneven, personaliser="attention")
    assert not caught.value.offers(uneven)
    with pytest.raises(BadSetting, match="hidden is 10; attention with 4 heads needs a multiple of 4"):
        ptde.teacher(SPEC, personaliser="attention", hidden=10)


def test_the_coach_is_refused_where_the_agents_units_are_not_listed(key):
    others_only = dataclasses.replace(SPEC, state_slots=None)
    with pytest.raises(NotOffered, match="the state of test does not list them; a unified latent reads any state") as caught:
        CoachLatent(others_only, 8, key)
    assert caught.value.offers(SPEC) and not caught.value.offers(others_only)
    with pytest.raises(NotOffered, match="COPA's coach reads unit slots, and some groups"):
        CoachLatent(dataclasses.replace(SPEC, other_slots=((7, 10), (10, 14))), 8, key)


# -- size ------------------------------------------------------------------------------------------------------------------


def test_parameters_on_the_largest_battle_by_formula():
    spec = lb.make("smac/3s5z_vs_3s6z").spec
    n, u, s, d = 8, 17, 230, 136 + 15 + 8
    w_agents, w_others, h, z, r = 7, 6, 64, 64, 64
    own = (d * h + h) + (d * z + z)  # h(x) and b(x)
    expected = {
        "gip": own + s * h * z + s * z,
        "lowrank": own + r * (s + h + z) + s * z,
        "film": own + (h * z + z) + (s * z + z),
        "attention": own + (h * h + h) + (w_agents + w_others + u) * h + 3 * h * h + (s - n * w_agents - 9 * w_others) * z,
    }
    gaussian = 2 * 2 * (z * z + z)
    for name, fusion in expected.items():
        agent = jax.eval_shape(ptde.teacher(spec, personaliser=name).init, jax.random.key(0)).agent
        assert sum(leaf.size for leaf in jax.tree.leaves(agent.latent)) == fusion + gaussian
    assert expected == {"gip": 977_280, "lowrank": 58_112, "film": 39_424, "attention": 46_528}


# -- latents ---------------------------------------------------------------------------------------------------------------


def test_a_direct_latent_is_what_was_made_of_the_state_without_noise(key):
    x, state = inputs(key, B)
    fusion = FUSIONS["gip"](key)
    z, variance = DirectLatent(fusion).moments(x, state)
    assert variance is None
    np.testing.assert_array_equal(z, fusion(x, state))


def test_the_variance_has_a_floor_and_is_the_exponential_above_it(key):
    heads = Gaussian(Z, Z, 0.01, key)
    g = jax.random.normal(key, (50, Z))
    log_var = heads.log_var(g)
    for shift in (-20.0, 0.0, 3.0):
        moved = eqx.tree_at(lambda h: h.log_var.second.bias, heads, heads.log_var.second.bias + shift)
        np.testing.assert_allclose(moved(g)[1], np.maximum(np.exp(log_var + shift), 0.01), rtol=1e-5)
    assert (eqx.tree_at(lambda h: h.log_var.second.bias, heads, jnp.full(Z, -50.0))(g)[1] == jnp.float32(0.01)).all()


def test_a_students_latent_needs_no_state_and_has_no_noise(key):
    some = decisions(key, 4, jnp.zeros((4, B), bool))
    latent = LocalLatent(SPEC, H, Z, key)
    x = local_input(some, SPEC.n_actions)
    blind, variance = latent.moments(x, None)
    assert variance is None
    np.testing.assert_array_equal(blind, latent.moments(x, some.state)[0])
    agent = PersonalisedAgent(SPEC, H, Z, latent, key)
    np.testing.assert_array_equal(agent.encode(some, key)[1], agent.encode(some._replace(state=None), jax.random.key(9))[1])


def test_the_coach_sees_units_only_and_gives_every_agent_its_own_row(key):
    coach = CoachLatent(SPEC, 8, key)
    x, state = inputs(key)
    by_x, by_state = jax.jit(jax.jacobian(lambda x, s: coach.moments(x, s)[0], (0, 1)))(x, state)
    assert (by_x == 0).all()
    listed = np.ones(S, bool)
    listed[[4, 13]] = False
    assert ((np.abs(by_state).max(1) > 0) == listed).all()
    # Agents 0 and 2 trade places, with their slots' vectors: so do their latents, and agent 1 notices nothing.
    swapped = state.at[0:2].set(state[5:7]).at[5:7].set(state[0:2])
    slots = coach.units.slots
    moved = eqx.tree_at(lambda c: c.units.slots, coach, slots.at[0].set(slots[2]).at[2].set(slots[0]))
    for before, after in zip(coach.moments(x, state), moved.moments(x, swapped), strict=True):
        np.testing.assert_allclose(after, before[::-1], rtol=1e-4, atol=1e-5)
    mean, var = coach.moments(*inputs(key, 4, B))
    assert mean.shape == var.shape == (4, B, N, 8)
    gradient = jax.jit(jax.grad(lambda coach: sum((m**2).sum() for m in coach.moments(*inputs(key, 16)))))(coach)
    assert all(abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_a_head_attends_by_its_own_part_of_query_and_key(key):
    query, units = jax.random.normal(key, (N, 8)), jax.random.normal(jax.random.key(1), (5, 8))
    weights = attention(by_head(query), by_head(units))
    for head in range(HEADS):
        part = slice(2 * head, 2 * head + 2)
        expected = jax.nn.softmax(query[:, part] @ units[:, part].T / 2**0.5, axis=-1)
        np.testing.assert_allclose(weights[head], expected, rtol=1e-5, atol=1e-6)


# -- latents that are held -------------------------------------------------------------------------------------------------


def decisions(key, length, is_first):
    keys = jax.random.split(key, 3)
    shape = (length, B, N)
    return Decision(
        obs=jax.random.normal(keys[0], (*shape, SPEC.obs_dim)),
        state=jax.random.normal(keys[1], (length, B, S)),
        avail_actions=jnp.ones((*shape, SPEC.n_actions), bool),
        alive=jnp.ones(shape, bool),
        last_action=jax.random.randint(keys[2], shape, -1, SPEC.n_actions),
        is_first=is_first,
    )


def noisy(key):
    return PersonalisedAgent(SPEC, H, Z, PersonalisedLatent(FUSIONS["gip"](key), Z, 0.01, key), key)


def test_renewing_a_latent_at_every_step_changes_nothing(key):
    agent = noisy(key)
    some = decisions(key, 20, jax.random.bernoulli(key, 0.2, (20, B)))
    plain, hidden, _ = eqx.filter_jit(unroll)(agent, jnp.zeros((B, N, agent.carry_dim)), some, key)
    held = Broadcast(agent, 1)
    q, carried, _ = eqx.filter_jit(unroll)(held, jnp.zeros((B, N, held.carry_dim)), some, key)
    np.testing.assert_allclose(q, plain, atol=1e-6)  # two programs: the compiler may round them differently
    np.testing.assert_allclose(carried[..., :H], hidden, atol=1e-6)
    assert (carried[..., -1] == 0).all()


def test_a_latent_is_held_for_an_interval_and_begins_anew_with_an_episode(key):
    # World 0 begins at decision 0 and again at 5, in the middle of an interval; world 1 goes on from a renewal at -1.
    is_first = jnp.zeros((18, B), bool).at[0, 0].set(True).at[5, 0].set(True)
    some = decisions(key, 18, is_first)  # longer than a chunk
    agent = Broadcast(PersonalisedAgent(SPEC, H, Z, DirectLatent(FUSIONS["film"](key)), key), 3)
    assert agent.carry_dim == H + Z + 1
    before = jnp.full((B, N, agent.carry_dim), 0.5).at[..., -1].set(1.0)
    q, carried, _ = eqx.filter_jit(unroll)(agent, before, some, key)
    fresh, _ = agent.agent.latent.moments(local_input(some, SPEC.n_actions), some.state)
    renewed = {0: [0, 0, 0, 3, 3, 5, 5, 5, 8, 8, 8, 11, 11, 11, 14, 14, 14, 17], 1: [-1, -1, 2, 2, 2, 5, 5, 5, 8, 8, 8]}
    for world, since in renewed.items():
        for t, last in enumerate(since):
            expected = fresh[last, world] if last >= 0 else before[world, :, H : H + Z]
            np.testing.assert_allclose(carried[t, world, :, H : H + Z], expected, rtol=1e-5, atol=1e-6)
            assert (carried[t, world, :, -1] == (t - last + 1) % 3).all()
    # What is played is the head's answer to the latent that is held.
    heard = agent.agent.head(carried[..., :H], carried[..., H : H + Z])
    np.testing.assert_allclose(q, heard, rtol=1e-5, atol=1e-6)


def test_what_a_held_latent_leads_to_later_teaches_the_step_that_it_came_from(key):
    some = decisions(key, 6, jnp.zeros((6, B), bool).at[0].set(True))
    agent = Broadcast(PersonalisedAgent(SPEC, H, Z, DirectLatent(FUSIONS["film"](key)), key), 4)

    def q_at(state, t):
        return unroll(agent, jnp.zeros((B, N, agent.carry_dim)), some._replace(state=state), key)[0][t].sum()

    for t, heard in ((3, 0), (4, 4), (5, 4)):
        by_state = abs(jax.jit(jax.grad(q_at), static_argnums=1)(some.state, t)).max((1, 2))
        assert [bool(reached > 0) for reached in by_state] == [step == heard for step in range(6)]


@pytest.mark.parametrize("interval", [0, 2049])
def test_an_interval_that_makes_no_sense_is_refused(interval, key):
    with pytest.raises(BadSetting, match=f"interval is {interval}; a latent can be renewed every 1 to 2048 steps"):
        Broadcast(noisy(key), interval)


def test_agents_say_how_large_their_hidden_state_is(key):
    assert noisy(key).carry_dim == H and noisy(key).latent_dim == Z
    assert RecurrentAgent(SPEC, H, key).carry_dim == H


# -- learning --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("personaliser", gated(["lowrank", "film", "attention"]))
def test_every_personaliser_finds_what_only_the_state_tells(personaliser):
    # Each agent has to read another part of the state: a unified latent gets 1.6 of 2 (tests/test_methods.py).
    env = probe.Lever(length=2)
    settings = {"hidden": 16, "latent": 16, "embed": 8, "hyper": 16, "segment": 8, "batch": 16, "buffer": 2000, "updates": 1}
    settings |= {"eps_steps": 4000, "lr": 3e-3, "target_every": 20, "gamma": 0.9, "td_lambda": 0.6}
    trained = train(env, ptde.teacher(env.spec, personaliser=personaliser, **settings), steps=60_000, worlds=16, devices=1)
    found = evaluator(env, trained.algorithm.policies["greedy"], 512)(trained.params, jax.random.key(7))
    assert float(found.returns.mean()) > 0.97 * env.optimum
