"""What an agent may not know cannot reach its values: the derivatives are zero, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.envs import probe
from limbeck.methods import bases, kd_marl, mappo, ptde
from limbeck.methods.q_learning import QSettings
from limbeck.nets.unroll import decide
from limbeck.types import FULL, LOCAL, PRIVILEGED, Decision

ENV = probe.Lever()
N, A = ENV.spec.n_agents, ENV.spec.n_actions
TEACHER = ptde.teacher(ENV.spec, ptde.TeacherSettings(hidden=8, latent=6, embed=4, hyper=8))
STEPS, B = 4, 2


@pytest.fixture(scope="module")
def trained():
    return TEACHER.init(jax.random.key(0))


@pytest.fixture(scope="module")
def student(trained):
    algorithm = ptde.student(ENV.spec, trained, ptde.StudentSettings(updates=10, batch=8, rows=100))
    return algorithm, algorithm.init(jax.random.key(1))


def experience(key):
    """Decisions in the middle of an episode, so that the hidden state carries everything on."""
    keys = jax.random.split(key, 3)
    return Decision(
        obs=jax.random.normal(keys[0], (STEPS, B, N, ENV.spec.obs_dim)),
        state=jax.random.normal(keys[1], (STEPS, B, ENV.spec.state_dim)),
        avail_actions=jnp.ones((STEPS, B, N, A), bool),
        alive=jnp.ones((STEPS, B, N), bool),
        last_action=jax.random.randint(keys[2], (STEPS, B, N), -1, A),
        is_first=jnp.zeros((STEPS, B), bool).at[0].set(True),
    )


def jacobians(agent, some):
    """d q_i at every step / d state and / d obs_j at every step: [steps, agent, ...], summed over what is not asked about."""

    def q_of(obs, state):
        def step(hidden, at):
            decision, key = at
            q, hidden = decide(agent, hidden, decision, key)
            return hidden, q[0]

        seen = some._replace(obs=obs, state=state)
        hidden = jnp.zeros((B, N, agent.carry_dim))
        return jax.lax.scan(step, hidden, (seen, jax.random.split(jax.random.key(3), STEPS)))[1]

    by_obs, by_state = jax.jit(jax.jacrev(q_of, (0, 1)))(some.obs, some.state)
    # [step, agent, action, step', world', agent', O] -> [step, agent, step', world', agent']; the state has no agent axis
    return np.abs(by_obs).sum((2, -1)), np.abs(by_state).sum((2, -1))


@pytest.fixture(scope="module")
def of_the_student(student):
    algorithm, params = student
    return jacobians(algorithm.policies["student"].agent(params), experience(jax.random.key(2)))


@pytest.fixture(scope="module")
def of_the_teacher(trained):
    return jacobians(TEACHER.policies["greedy"].agent(trained), experience(jax.random.key(2)))


def test_no_part_of_the_state_at_any_time_reaches_the_student(of_the_student):
    assert (of_the_student[1] == 0).all()


def test_no_other_agents_observation_at_any_time_reaches_the_student(of_the_student):
    by_obs = of_the_student[0][:, :, :, 0]  # world 0 looks at itself
    for i in range(N):
        for j in range(N):
            if i != j:
                assert (by_obs[:, i, :, j] == 0).all()
    assert (of_the_student[0][:, :, :, 1] == 0).all(), "another world reaches nobody"


def test_the_students_own_observations_do_reach_it_now_and_later_but_not_before(of_the_student):
    by_obs = of_the_student[0][:, :, :, 0]
    for i in range(N):
        own = by_obs[:, i, :, i]  # [step, step']
        assert (own[np.tril_indices(STEPS)] > 0).all()
        assert (own[np.triu_indices(STEPS, 1)] == 0).all(), "nothing travels back in time"


def test_the_teacher_sees_the_state_of_the_moment(of_the_teacher):
    by_state = of_the_teacher[1][:, :, :, 0]  # [step, agent, step']
    assert (np.stack([by_state[t, :, t] for t in range(STEPS)]) > 0).all()


def test_the_views_say_the_same():
    assert "state" not in LOCAL and set(PRIVILEGED) - set(LOCAL) == {"state"}
    assert set(PRIVILEGED) | set(FULL) == set(Decision._fields) and set(FULL) - set(LOCAL) == {"full_obs"}
    assert TEACHER.policies["greedy"].view == PRIVILEGED
    for mixer in bases.BASES:
        algorithm = bases.build(probe.Switch().spec, QSettings(mixer=mixer))
        assert all(policy.view == LOCAL for policy in algorithm.policies.values())


def test_a_local_policy_acts_where_there_is_no_state(student):
    algorithm, params = student
    assert {name: policy.view for name, policy in algorithm.policies.items()} == {"student": LOCAL, "teacher": PRIVILEGED}
    assert next(iter(algorithm.policies)) == "student", "the main policy is the one that can be deployed"
    policy = algorithm.policies["student"]
    decision = jax.tree.map(lambda x: x[0], experience(jax.random.key(2)))
    carry, key = policy.init_carry(B), jax.random.key(4)
    blind, carry_blind = policy.act(params, carry, decision._replace(state=None), key, jnp.float32(0))
    seeing, carry_seeing = policy.act(params, carry, decision, key, jnp.float32(0))
    assert blind.shape == (B, N)
    np.testing.assert_array_equal(blind, seeing)
    np.testing.assert_array_equal(carry_blind, carry_seeing)
    with pytest.raises((AttributeError, TypeError)):
        algorithm.policies["teacher"].act(params, carry, decision._replace(state=None), key, jnp.float32(0))


def test_qmix_agents_are_local_too_though_their_mixer_is_not():
    algorithm = bases.build(ENV.spec, QSettings(hidden=8, embed=4, hyper=8))
    params = algorithm.init(jax.random.key(0))
    by_obs, by_state = jacobians(algorithm.policies["greedy"].agent(params), experience(jax.random.key(2)))
    assert (by_state == 0).all()
    assert (by_obs[:, 0, :, :, 1:] == 0).all() and (by_obs[:, 0, 0, 0, 0] > 0).all()


@pytest.mark.parametrize(("critic", "shared"), [("state", True), ("local", False)])
def test_actors_are_local_too_though_their_critic_may_not_be(critic, shared):
    algorithm = mappo.build(ENV.spec, hidden=8, critic=critic, shared=shared, out_gain=1.0)
    params = algorithm.init(jax.random.key(0))
    assert {name: policy.view for name, policy in algorithm.policies.items()} == {"greedy": LOCAL}
    by_obs, by_state = jacobians(algorithm.policies["greedy"].agent(params), experience(jax.random.key(2)))
    assert (by_state == 0).all()
    for i in range(N):
        others = [j for j in range(N) if j != i]
        assert (by_obs[:, i, :, 0][..., others] == 0).all() and (by_obs[:, i, 0, 0, i] > 0).all()


def test_unlike_students_are_local_though_a_critic_of_the_state_taught_them_and_do_without_what_was_dropped():
    trained = mappo.build(ENV.spec, hidden=8).init(jax.random.key(0))
    last = ENV.spec.obs_dim - 1
    algorithm = kd_marl.student(ENV.spec, trained, gamma=0.9, gae_lambda=0.9, widths="5,6,4", drop=f"{last}//", kinds="gru,mlp,gru")
    params = algorithm.init(jax.random.key(1))
    team, some = algorithm.policies["student"].agent(params), experience(jax.random.key(2))
    by_obs, by_state = jacobians(team, some)
    assert (by_state == 0).all()
    of_gru, of_mlp = by_obs[:, 0, :, 0], by_obs[:, 1, :, 0]  # [step, step', agent']
    assert (of_gru[..., 1:] == 0).all() and (of_gru[..., 0][np.tril_indices(STEPS)] > 0).all()
    assert (of_mlp[..., [0, 2]] == 0).all() and (np.diag(of_mlp[..., 1]) > 0).all()
    assert (of_mlp[..., 1][~np.eye(STEPS, dtype=bool)] == 0).all(), "no memory"
    first = jax.tree.map(lambda x: x[0], some)
    ask = jax.jit(lambda obs: decide(team, jnp.zeros((B, N, 6)), first._replace(obs=obs), jax.random.key(0))[0])
    asked = ask(first.obs), ask(first.obs.at[..., last].add(1.0))
    np.testing.assert_array_equal(asked[0][:, 0], asked[1][:, 0])
    assert (asked[0][:, 1] != asked[1][:, 1]).all()
