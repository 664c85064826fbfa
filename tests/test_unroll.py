"""Networks through time: faster forms equal the plain ones, inputs are whose they should be, and noise is never shared."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.nets.agents import RecurrentAgent, gru_drive, gru_step, local_dim, local_input
from limbeck.nets.fusion import StateHypernetwork
from limbeck.nets.personalise import PersonalisedAgent, PersonalisedLatent, UnifiedLatent
from limbeck.nets.teams import Team
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


def test_networks_of_one_form_are_computed_at_once_and_say_what_each_says_alone(key):
    """The first and the last are of one form, and the agents stand in another order than their networks."""
    keys = jax.random.split(key, 3)
    nets = RecurrentAgent(SPEC, 6, keys[0]), RecurrentAgent(SPEC, 4, keys[1]), RecurrentAgent(SPEC, 6, keys[2])
    team, seen = Team(nets, ((2,), (0,), (1,))), decisions(key, 37)
    hidden = jax.random.normal(key, (B, 3, 6)).at[:, 0, 4:].set(0)
    found = jax.jit(unroll)(team, hidden, seen, key)
    for net, (i,) in zip(nets, team.places, strict=True):
        alone = jax.jit(unroll)(net, hidden[..., : net.carry_dim], seen, key)
        np.testing.assert_allclose(found.q[:, :, i], alone.q[:, :, i], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.hidden[:, :, i, : net.carry_dim], alone.hidden[:, :, i], rtol=1e-4, atol=1e-5)
    assert (found.hidden[:, :, 0, 4:] == 0).all()
    ask = jax.jit(decide)
    for t in range(3):
        q, hidden = ask(team, hidden, at(seen, t), key)
        np.testing.assert_allclose(q, found.q[t], rtol=1e-4, atol=1e-5)


def noiseless_teacher(key):
    """The personalised agent, made deterministic: its variance is below what float32 can see."""
    gip = PersonalisedLatent(StateHypernetwork(local_dim(SPEC), SPEC.state_dim, H, Z, key), Z, 0.0, key)
    agent = personalised(gip, key)
    return eqx.tree_at(lambda a: a.latent.gaussian.log_var.second.bias, agent, jnp.full(Z, -200.0))


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
        q, *_ = unroll(agent, carry0, some, key)
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
    whole, hidden, _ = unroll(agent, carry0, some, key, chunk=13)
    for chunk in (4, 100):
        q, hidden_of_chunks, _ = unroll(agent, carry0, some, key, chunk=chunk)
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


# -- noise -----------------------------------------------------------------------------------------------------------------


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
