"""Networks: faster forms equal the plain ones, and latents are whose they should be."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.nets.agents import RecurrentAgent, gru_drive, gru_step, local_dim, local_input
from limbeck.nets.fusion import StateHypernetwork
from limbeck.nets.personalise import Gaussian, LocalLatent, PersonalisedAgent, PersonalisedLatent, UnifiedLatent
from limbeck.nets.unroll import decide, unroll
from limbeck.types import Decision, EnvSpec

SPEC = EnvSpec("test", n_agents=3, n_actions=4, obs_dim=5, state_dim=6, episode_limit=10)
H, Z, B = 8, 7, 2


def decisions(key, length, is_first=None):
    keys = jax.random.split(key, 4)
    shape = (length, B, SPEC.n_agents)
    return Decision(
        obs=jax.random.normal(keys[0], (*shape, SPEC.obs_dim)),
        state=jax.random.normal(keys[1], (length, B, SPEC.state_dim)),
        avail_actions=jnp.ones((*shape, SPEC.n_actions), bool),
        alive=jnp.ones(shape, bool),
        last_action=jax.random.randint(keys[2], shape, -1, SPEC.n_actions),
        is_first=jax.random.bernoulli(keys[3], 0.2, (length, B)) if is_first is None else is_first,
    )


def at(some, t):
    return jax.tree.map(lambda x: x[t], some)


def noiseless_teacher(key):
    """The personalised agent, made deterministic: its variance is below what float32 can see."""
    agent = personalised(gip(0.0, key), key)
    return eqx.tree_at(lambda a: a.latent.gaussian.log_var.second.bias, agent, jnp.full(Z, -200.0))


def gip(var_floor, key):
    return PersonalisedLatent(StateHypernetwork(local_dim(SPEC), SPEC.state_dim, H, Z, key), Z, var_floor, key)


def personalised(latent, key):
    return PersonalisedAgent(SPEC, H, Z, latent, key)


# -- time ------------------------------------------------------------------------------------------------------------------


def test_the_two_parts_of_the_gru_are_the_cell_of_equinox(key):
    core = eqx.nn.GRUCell(5, H, key=key)
    x, hidden = jax.random.normal(key, (4, 3, 5)), jax.random.normal(key, (4, 3, H))
    expected = jax.vmap(jax.vmap(core))(x, hidden)
    np.testing.assert_allclose(gru_step(core, gru_drive(core, x), hidden), expected, rtol=1e-5, atol=1e-6)


def recurrent(key):
    return RecurrentAgent(SPEC, H, key)


@pytest.mark.parametrize(
    ("make", "length"),
    [(recurrent, 1), (recurrent, 15), (recurrent, 16), (recurrent, 17), (recurrent, 33), (noiseless_teacher, 17)],
)
def test_unrolling_in_chunks_is_deciding_one_by_one_with_the_same_gradients(length, make, key):
    agent, some = make(key), decisions(key, length)
    carry0 = jax.random.normal(key, (B, SPEC.n_agents, H))
    weight = jax.random.normal(key, (length, B, SPEC.n_agents, SPEC.n_actions))

    def in_chunks(agent, carry0):
        q, _ = unroll(agent, carry0, some, key)
        return (q * weight).sum(), q

    def one_by_one(agent, carry0):
        def step(hidden, decision):
            q, hidden = decide(agent, hidden, decision, key)
            return hidden, q

        _, q = jax.lax.scan(step, carry0, some)
        return (q * weight).sum(), q

    values = [eqx.filter_jit(jax.value_and_grad(f, (0, 1), has_aux=True))(agent, carry0) for f in (in_chunks, one_by_one)]
    ((_, q), gradient), ((_, q_expected), gradient_expected) = values
    np.testing.assert_allclose(q, q_expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(gradient_expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_the_size_of_chunks_changes_nothing(key):
    agent, some = RecurrentAgent(SPEC, H, key), decisions(key, 13)
    carry0 = jnp.ones((B, SPEC.n_agents, H))
    whole, hidden = unroll(agent, carry0, some, key, chunk=13)
    for chunk in (4, 100):
        q, hidden_of_chunks = unroll(agent, carry0, some, key, chunk=chunk)
        np.testing.assert_allclose(q, whole, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(hidden_of_chunks, hidden, rtol=1e-5, atol=1e-6)


# -- inputs ----------------------------------------------------------------------------------------------------------------


def test_the_local_input_is_observation_last_action_and_who_i_am(key):
    some = decisions(key, 1)._replace(last_action=jnp.array([[[-1, 0, 3], [2, 2, -1]]]))
    x = np.asarray(local_input(some, SPEC.n_actions))
    assert x.shape == (1, B, 3, local_dim(SPEC)) == (1, B, 3, 5 + 4 + 3)
    np.testing.assert_array_equal(x[..., :5], some.obs)
    np.testing.assert_array_equal(x[0, 0, :, 5:9], [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(x[0, 1, :, 5:9], [[0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    for b in range(B):
        np.testing.assert_array_equal(x[0, b, :, 9:], np.eye(3))


# -- latents ---------------------------------------------------------------------------------------------------------------


def test_the_contraction_equals_the_built_weight_matrix_of_every_agent_in_value_and_gradient(key):
    hyper = StateHypernetwork(local_dim(SPEC), SPEC.state_dim, H, Z, key)
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (4, B, 3, local_dim(SPEC)))
    state = jax.random.normal(keys[1], (4, B, SPEC.state_dim))
    weight = jax.random.normal(keys[2], (4, B, 3, Z))

    def contracted(hyper, x, state):
        g = hyper(x, state)
        return (g * weight).sum(), g

    def built(hyper, x, state):
        g = jax.vmap(jax.vmap(lambda x, s: jax.vmap(lambda x: hyper.built(x, s))(x)))(x, state)
        return (g * weight).sum(), g

    with jax.default_matmul_precision("highest"):
        (_, g), gradient = jax.value_and_grad(contracted, (0, 1, 2), has_aux=True)(hyper, x, state)
        (_, g_built), gradient_built = jax.value_and_grad(built, (0, 1, 2), has_aux=True)(hyper, x, state)
    np.testing.assert_allclose(g, g_built, rtol=1e-4, atol=1e-5)
    assert len(jax.tree.leaves(gradient)) == 6 + 2, "tensor and its bias, two layers of two, input and state"
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(gradient_built), strict=True):
        assert abs(a).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_the_variance_has_a_floor_and_is_the_exponential_above_it(key):
    heads = Gaussian(Z, Z, 0.01, key)
    g = jax.random.normal(key, (50, Z))
    log_var = heads.log_var(g)
    for shift in (-20.0, 0.0, 3.0):
        moved = eqx.tree_at(lambda h: h.log_var.second.bias, heads, heads.log_var.second.bias + shift)
        np.testing.assert_allclose(moved(g)[1], np.maximum(np.exp(log_var + shift), 0.01), rtol=1e-5)
    assert (eqx.tree_at(lambda h: h.log_var.second.bias, heads, jnp.full(Z, -50.0))(g)[1] == jnp.float32(0.01)).all()


def test_noise_differs_from_agent_to_agent_and_from_decision_to_decision_and_from_key_to_key(key):
    # The same input everywhere: whatever differs is noise. Longer than a chunk, so that chunks must not share their noise.
    agent = personalised(UnifiedLatent(SPEC, Z, 0.01, key), key)
    one = decisions(key, 1, jnp.ones((1, B), bool))
    same = jax.tree.map(lambda x: jnp.broadcast_to(x[:, :1], (40, B, *x.shape[2:])), one)
    same = same._replace(obs=jnp.zeros_like(same.obs), last_action=jnp.zeros_like(same.last_action))
    _, z = eqx.filter_jit(agent.encode)(same, key)
    mean, var = eqx.filter_jit(agent.latent.moments)(local_input(same, SPEC.n_actions), same.state)
    noise = np.asarray((z - mean) / jnp.sqrt(var)).reshape(-1)
    assert len(np.unique(noise.round(5))) > 0.95 * noise.size
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    # z reaches q linearly, so equal q of two decisions would mean equal noise.
    run = eqx.filter_jit(lambda key: unroll(agent, jnp.zeros((B, 3, H)), same, key)[0][:, :, 0, 0])
    q = np.asarray(run(key))
    assert len(np.unique(q.round(5))) > 0.95 * q.size
    assert not np.allclose(q, run(jax.random.key(1)))


def test_the_unified_latent_is_the_same_for_all_agents_and_the_personalised_one_is_not(key):
    some = decisions(key, 4)
    x = local_input(some, SPEC.n_actions)
    unified = UnifiedLatent(SPEC, Z, 0.01, key).moments(x, some.state)
    personal = gip(0.01, key).moments(x, some.state)
    for moment in unified:
        assert moment.shape == (4, B, 3, Z)
        np.testing.assert_array_equal(moment, np.broadcast_to(moment[..., :1, :], moment.shape))
    assert (abs(personal[0][..., 0, :] - personal[0][..., 1, :]).max(-1) > 1e-4).all()


def test_a_students_latent_needs_no_state_and_has_no_noise(key):
    some = decisions(key, 4)
    latent = LocalLatent(SPEC, H, Z, key)
    x = local_input(some, SPEC.n_actions)
    blind, variance = latent.moments(x, None)
    assert variance is None
    np.testing.assert_array_equal(blind, latent.moments(x, some.state)[0])
    agent = personalised(latent, key)
    np.testing.assert_array_equal(agent.encode(some, key)[1], agent.encode(some._replace(state=None), jax.random.key(9))[1])
