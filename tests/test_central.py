"""Methods that see or hear more than an agent does: CSRL's commander, COPA's coach, CADP's advice and how it is pruned away."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

from limbeck.envs import probe
from limbeck.envs.probe import Lever, LeverState
from limbeck.errors import BadSetting, NotOffered, UnknownName
from limbeck.evaluate import evaluator
from limbeck.learn import Learner
from limbeck.methods import METHODS, bases, cadp, copa, csrl, ptde, q_learning
from limbeck.methods.cadp import own_attention, pruning_loss
from limbeck.methods.copa import Sent, entropy, log_likelihood, sent_in, variational_terms, whole
from limbeck.methods.q_learning import online_key, values_of
from limbeck.nets.advising import AdvisedAgent, LoneAgent
from limbeck.nets.agents import local_input
from limbeck.nets.broadcast import Broadcast
from limbeck.nets.carried import Carried
from limbeck.nets.fusion import HEADS
from limbeck.nets.personalise import DirectLatent, PersonalisedAgent
from limbeck.nets.unroll import unroll
from limbeck.train import train
from limbeck.types import LOCAL, PRIVILEGED, Decision, EnvSpec, Segment

SMALL = {
    **{"hidden": 16, "embed": 8, "hyper": 16, "segment": 8, "batch": 16, "buffer": 2000},
    **{"eps_steps": 4000, "lr": 3e-3, "target_every": 20, "gamma": 0.9, "td_lambda": 0.6, "updates": 1},
}
TINY = {"hidden": 8, "embed": 4, "hyper": 8}
SHORT = TINY | {"segment": 8, "batch": 8, "buffer": 32, "target_every": 3, "eps_steps": 100, "updates": 1}
# Three agents, each with two numbers in the state, and one other with three.
SPEC = EnvSpec("test", 3, 4, 5, 9, 10, state_slots=((0, 2), (2, 4), (4, 6)), other_slots=((6, 9),))
N, A, B = SPEC.n_agents, SPEC.n_actions, 2


def experience(key, length, is_first=None, alive=None):
    keys = jax.random.split(key, 3)
    shape = (length, B, N)
    first = jnp.zeros((length, B), bool).at[0].set(True) if is_first is None else is_first
    return Decision(
        obs=jax.random.normal(keys[0], (*shape, SPEC.obs_dim)),
        state=jax.random.normal(keys[1], (length, B, SPEC.state_dim)),
        avail_actions=jnp.ones((*shape, A), bool),
        alive=jnp.ones(shape, bool) if alive is None else alive,
        last_action=jax.random.randint(keys[2], shape, -1, A),
        is_first=first,
    )


def segment(decisions, carry0):
    length = decisions.is_first.shape[0] - 1
    action = jnp.zeros((length, B, N), int)
    whole = jnp.ones((length, B))
    return Segment(decisions, action, whole, jnp.zeros((length, B), bool), whole, carry0)


def zeroed(module):
    return jax.tree.map(jnp.zeros_like, module)


# -- CADP by hand ----------------------------------------------------------------------------------------------------------


def test_the_pruning_loss_by_hand():
    # Two agents, one head: rows (3/4, 1/4) and (1/2, 1/2). KL(I || A) has the entries -log 3/4, 0, 0, -log 1/2.
    attention = jnp.array([[[0.75, 0.25], [0.5, 0.5]]])
    both, one = jnp.ones(2, bool), jnp.array([True, False])
    assert pruning_loss(attention, both) == pytest.approx((-math.log(0.75) - math.log(0.5)) / 4, rel=1e-5)
    # Two heads: the mean. Agent 1 dead: one entry is left.
    other = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    heads = jnp.concatenate([attention, other])
    assert pruning_loss(heads, both) == pytest.approx((-math.log(0.75) - math.log(0.5)) / 8, rel=1e-5)
    assert pruning_loss(heads, one) == pytest.approx(-math.log(0.75) / 2, rel=1e-5)
    assert own_attention(heads, both) == pytest.approx((0.75 + 0.5 + 1 + 1) / 4)
    assert own_attention(heads, one) == pytest.approx((0.75 + 1) / 2)
    # Decisions count alike however many live; none alive is no error. And A_ii = 0 costs -log 1e-8, not infinity.
    stacked, alive = jnp.stack([heads, heads, heads]), jnp.stack([both, one, ~both])
    assert pruning_loss(stacked, alive) == pytest.approx((0.980829 / 8 + 0.287682 / 2 + 0) / 3, rel=1e-4)
    assert pruning_loss(other, both) == pytest.approx(0, abs=1e-6)
    swapped = other[:, ::-1]
    assert pruning_loss(swapped, both) == pytest.approx(-2 * math.log(1e-8) / 4, rel=1e-4)


def test_the_pruning_loss_equals_the_divergence_entry_by_entry(key):
    attention = jax.nn.softmax(jax.random.normal(key, (5, B, HEADS, N, N)))
    identity = jnp.broadcast_to(jnp.eye(N), attention.shape)
    divergence = jax.scipy.special.kl_div(identity, attention) - attention + identity  # kl_div adds the masses' difference
    assert pruning_loss(attention, jnp.ones((5, B, N), bool)) == pytest.approx(float(divergence.mean()), rel=1e-5)


def two_heard():
    """Two agents that see one number each; all weights are zero but those that a test sets."""
    spec = EnvSpec("two", 2, 2, 1, 1, 5)
    agent = zeroed(AdvisedAgent(spec, 4, 1, jax.random.key(0)))
    # Head 0 asks and answers with what is observed; the value of head 0 is the observation, that of head 1 its double.
    agent = eqx.tree_at(lambda a: a.query.weight, agent, agent.query.weight.at[0, 0].set(1.0))
    agent = eqx.tree_at(lambda a: a.key.weight, agent, agent.key.weight.at[0, 0].set(1.0))
    value = agent.alone.value.weight.at[0, 0].set(1.0).at[1, 0].set(2.0)
    agent = eqx.tree_at(lambda a: a.alone.value.weight, agent, value)
    decision = Decision(
        jnp.array([[1.0], [2.0]]), jnp.zeros(1), jnp.ones((2, 2), bool), jnp.ones(2, bool), -jnp.ones(2, int), jnp.array(True)
    )
    return agent, decision


def test_attention_among_agents_by_hand(key):
    agent, decision = two_heard()
    # Head 0: agent 0 matches (1, 2), agent 1 matches (2, 4), with d = 1; the other heads match nothing and listen to all alike.
    towards_1 = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))]
    weights = agent.attention(decision)
    np.testing.assert_allclose(weights[0], [[1 - p, p] for p in towards_1], rtol=1e-5)
    np.testing.assert_allclose(weights[1:], jnp.full((HEADS - 1, 2, 2), 0.5), rtol=1e-6)
    _, heard = agent.encode(decision, key)
    np.testing.assert_allclose(heard, [[1 + towards_1[0], 3.0, 0, 0], [1 + towards_1[1], 3.0, 0, 0]], rtol=1e-5)
    _, own = agent.alone.encode(decision, key)
    np.testing.assert_allclose(own, [[1.0, 2.0, 0, 0], [2.0, 4.0, 0, 0]])


def test_nobody_listens_to_the_dead(key):
    agent, decision = two_heard()
    alone = agent.attention(decision._replace(alive=jnp.array([True, False])))
    np.testing.assert_array_equal(alone[:, 0], jnp.tile(jnp.array([1.0, 0.0]), (HEADS, 1)))
    np.testing.assert_allclose(alone.sum(-1), 1.0, rtol=1e-6)
    nobody = agent.attention(decision._replace(alive=jnp.zeros(2, bool)))
    np.testing.assert_array_equal(nobody, jnp.tile(jnp.eye(2), (HEADS, 1, 1)))

    def loss(agent):
        weights = agent.attention(decision._replace(alive=jnp.zeros(2, bool)))
        return pruning_loss(weights, jnp.ones(2, bool)) + weights.sum()

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(loss)(agent))), "nor is there an infinity on the way"


class Deaf(AdvisedAgent):
    """Attention as pruning wants it."""

    def _weights(self, x, alive):
        return jnp.broadcast_to(jnp.eye(x.shape[-2]), (*x.shape[:-2], HEADS, x.shape[-2], x.shape[-2]))


def test_with_the_identity_for_attention_teacher_and_student_are_the_same(key):
    seen, carry = experience(key, 20), jnp.zeros((B, N, 8))
    deaf = Deaf(SPEC, 8, 5, key)
    np.testing.assert_allclose(unroll(deaf, carry, seen, key)[0], unroll(deaf.alone, carry, seen, key)[0], rtol=1e-5, atol=1e-6)
    advised = AdvisedAgent(SPEC, 8, 5, key)
    q, q_alone = (unroll(agent, carry, seen, key)[0] for agent in (advised, advised.alone))
    assert abs(q - q_alone).max() > 1e-3, "else the test would prove nothing"


def test_the_student_is_a_part_of_the_teacher():
    algorithm = cadp.build(SPEC, **TINY)
    params = algorithm.init(jax.random.key(0))
    assert {name: policy.view for name, policy in algorithm.policies.items()} == {"student": LOCAL, "teacher": PRIVILEGED}
    assert algorithm.main == "student", "the one that can be deployed"
    student, teacher = (policy.agent(params) for policy in algorithm.policies.values())
    assert isinstance(student, LoneAgent) and isinstance(teacher, AdvisedAgent) and student is teacher.alone
    weights = lambda module: sum(leaf.size for leaf in jax.tree.leaves(module))  # noqa: E731
    d, h, v = SPEC.obs_dim + A + N, 8, HEADS * 32
    assert weights(student) == (d + 1) * h + 6 * h * h + 4 * h + d * v + (v + 1) * h + (2 * h + 1) * h + (h + 1) * (h + A)
    assert weights(teacher) - weights(student) == 2 * d * v


def pruning_gradient(steps):
    algorithm = cadp.build(SPEC, mixer="vdn", prune_after=100, prune_weight=0.5, **TINY)
    params = algorithm.init(jax.random.key(0))
    target = algorithm.init_target(params)._replace(steps=jnp.int32(steps))
    some = segment(experience(jax.random.key(1), 6), jnp.zeros((B, N, 8)))
    loss = lambda params, target: algorithm.loss(params, target, some, jax.random.key(2))  # noqa: E731
    (value, metrics), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, target)
    return value, metrics, gradient


def test_pruning_begins_on_time_and_moves_attention_alone():
    before, metrics, gradient = pruning_gradient(99)
    after, metrics_after, gradient_after = pruning_gradient(100)
    assert metrics["pruning"] == metrics_after["pruning"] > 0.1
    assert after - before == pytest.approx(0.5 * 0.5 * float(metrics["pruning"]), rel=1e-4), "half of it, as of the squared error"
    by_pruning = jax.tree.map(jnp.subtract, gradient_after, gradient)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(by_pruning.agent.alone))
    assert (by_pruning.agent.query.weight != 0).any() and (by_pruning.agent.key.weight != 0).any()
    assert (gradient.agent.query.weight != 0).any(), "while advising, attention learns from the returns"
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradient.agent)), "and so does all the rest"


# -- who sees what ---------------------------------------------------------------------------------------------------------


def jacobians(agent, seen):
    """|d q_i / d obs_j| and |d q_i / d state|: [step, agent, step', agent'] and [step, agent, step']."""

    def q_of(obs, state):
        return unroll(agent, jnp.zeros((B, N, agent.carry_dim)), seen._replace(obs=obs, state=state), jax.random.key(3))[0][:, 0]

    by_obs, by_state = jax.jit(jax.jacrev(q_of, (0, 1)))(seen.obs, seen.state)
    assert (by_obs[:, :, :, :, 1:] == 0).all() and (by_state[:, :, :, :, 1:] == 0).all(), "another world reaches nobody"
    return np.abs(by_obs[:, :, :, :, 0]).sum((2, -1)), np.abs(by_state[:, :, :, :, 0]).sum((2, -1))


OTHERS = ~np.eye(N, dtype=bool)
METHODS_HERE = {"csrl": csrl.build, "copa": copa.build, "cadp": cadp.build}


def test_cadps_student_sees_neither_the_state_nor_what_others_observe_and_its_teacher_does(key):
    algorithm, seen = cadp.build(SPEC, **TINY), experience(key, 4)
    params = algorithm.init(key)
    by_obs, by_state = jacobians(algorithm.policies["student"].agent(params), seen)
    assert (by_state == 0).all()
    assert (by_obs.transpose(0, 2, 1, 3)[:, :, OTHERS] == 0).all()
    assert all((by_obs[t, i, : t + 1, i] > 0).all() for t in range(4) for i in range(N))
    by_obs, by_state = jacobians(algorithm.policies["teacher"].agent(params), seen)
    assert (by_state == 0).all(), "nor does the teacher look at the state itself"
    assert all((by_obs[t, :, t][OTHERS] > 0).all() for t in range(4))


def test_cadps_student_acts_where_there_is_no_state(key):
    algorithm = cadp.build(SPEC, **TINY)
    params, policy = algorithm.init(key), algorithm.policies["student"]
    decision = jax.tree.map(lambda x: x[0], experience(key, 1))
    carry = policy.init_carry(B)
    blind, seeing = (policy.act(params, carry, d, key, jnp.float32(0)) for d in (decision.within(LOCAL), decision))
    np.testing.assert_array_equal(blind[0], seeing[0])


@pytest.mark.parametrize("interval", [1, 4])
@pytest.mark.parametrize("name", ["csrl", "copa"])
def test_what_is_told_is_about_the_moment_of_telling(name, interval, key):
    algorithm, seen = METHODS_HERE[name](SPEC, interval=interval, latent=8, **TINY), experience(key, 6)
    policy = algorithm.policies["greedy"]
    assert policy.view == PRIVILEGED
    by_obs, by_state = jacobians(policy.agent(algorithm.init(key)), seen)
    told = [t - t % interval for t in range(6)]
    for t in range(6):
        assert (by_state[t, :, told[t]] > 0).all()
        assert (np.delete(by_state[t], told[t], axis=1) == 0).all()
    assert (by_obs.transpose(0, 2, 1, 3)[:, :, OTHERS] == 0).all(), "what others see is only known through the state"


# -- COPA by hand ----------------------------------------------------------------------------------------------------------


def test_likelihood_and_entropy_by_hand():
    # N(1; 0, 1): -1/2 - log(2 pi) / 2.  N(0; 0, e^-10) has a density above 1, N(100; 0, 1) one of e^-5000: both are cut off.
    found = log_likelihood(jnp.array([1.0, 0.0, 100.0]), jnp.zeros(3), jnp.array([0.0, -10.0, 0.0]))
    np.testing.assert_allclose(found, [-0.5 - 0.918939, 0.0, -1000.0], rtol=1e-5)
    # H(N(0, 1)) = log(2 pi e) / 2; that of a variance of e^-10 is negative; that of e^30 is above 10.
    np.testing.assert_allclose(entropy(jnp.exp(jnp.array([0.0, -10.0, 30.0]))), [1.418939, 0.0, 10.0], rtol=1e-5)
    slope = jax.grad(lambda var: entropy(var).sum())(jnp.exp(jnp.array([0.0, -10.0, 30.0])))
    np.testing.assert_allclose(slope, [0.5, 0.0, 0.0], rtol=1e-5)


def coached(key, interval=3, latent=2):
    return copa.build(SPEC, interval=interval, latent=latent, **TINY).init(key).agent


def test_the_variational_terms_by_hand(key):
    # A coach without weights says z = mean + std * noise with mean (1, 3) and log-variance (0, -2) to all; a recogniser without
    # weights guesses mean (0, 0) and log-variance (0, -20), which is cut to -10.
    agent = zeroed(coached(key))
    agent = eqx.tree_at(lambda a: a.players.agent.latent.mean.bias, agent, jnp.array([1.0, 3.0]))
    agent = eqx.tree_at(lambda a: a.players.agent.latent.log_var.bias, agent, jnp.array([0.0, -2.0]))
    agent = eqx.tree_at(lambda a: a.recogniser.log_var.bias, agent, jnp.array([0.0, -20.0]))
    agent = eqx.tree_at(lambda a: a.recogniser.mean.bias, agent, jnp.array([0.0, 3.0]))
    d = SPEC.obs_dim + A + N
    noise = jnp.zeros((1, 1, N, 2)).at[0, 0, 1, 0].set(1.0).at[0, 0, 2].set(50.0)
    counts = jnp.array([[[1.0, 1.0, 0.0]]])  # the third is dead, however surprising
    sent = Sent(jnp.zeros((1, 1, SPEC.state_dim)), jnp.zeros((1, 1, N, d)), noise, jnp.zeros((1, 1, N, 2 * d)), counts)
    surprise, freedom = variational_terms(agent, sent)
    # z of player 0: (1, 3), of player 1: (2, 3). The second number is guessed with a density above 1: it costs nothing.
    costs = [0.5 * 1 + 0.918939, 0.5 * 4 + 0.918939]
    assert surprise == pytest.approx(sum(costs) / 2, rel=1e-5)
    assert freedom == pytest.approx((1.418939 + 0.418939) / 2, rel=1e-5)
    assert variational_terms(agent, sent._replace(counts=0 * counts)) == (0, 0), "nothing sent, nothing to say"


FIRST = jnp.array([[1, 0], [0, 0], [0, 0], [0, 1], [0, 0], [1, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]], bool)
"""World 0 begins episodes at 0 and 5, world 1 comes from before and begins one at 3; eleven decisions."""


def test_only_whole_intervals_count():
    by_hand = np.array([[1, 1], [1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [1, 1], [1, 1], [1, 1], [0, 0], [0, 0]], bool)
    np.testing.assert_array_equal(whole(FIRST, 3), by_hand)
    assert whole(FIRST, 1).all()
    assert not whole(FIRST[:2], 3).any() and not whole(FIRST[:2], 9).any()


@pytest.mark.parametrize("mixer", ["vdn", "ow-qmix"])
def test_what_is_judged_is_what_was_sent(mixer, key):
    alive = jnp.ones((11, B, N), bool).at[6:, 0, 2].set(False)
    seen = experience(key, 11, FIRST, alive)
    algorithm = copa.build(SPEC, mixer=mixer, interval=3, latent=2, **TINY)
    agent = algorithm.init(key).agent
    # World 1 spoke last one step before the segment: its clock shows 1, the next word would be due at 2.
    held = jnp.zeros((B, N, agent.carry_dim)).at[1].set(0.3).at[..., -1].set(jnp.array([0.0, 1.0])[:, None])
    carry = Carried(held, jnp.zeros((B, N, 8))) if mixer == "ow-qmix" else held
    some = segment(seen, carry)
    sent = sent_in(agent.players, some, key)
    assert sent.counts.shape == (11 // 3, B, N)
    # World 0: at 0; at 3 cut by the end at 5; at 5; at 8.  World 1: at 2 cut by the end at 3; at 3; at 6; at 9 cut by the segment.
    moments = [(0, [0, 5, 8]), (1, [3, 6])]
    z = values_of(agent, some, key).hidden[..., 8:-1]  # what the unroll itself sent
    x = local_input(seen, A)
    mean, var = agent.players.agent.latent.moments(sent.x, sent.state)
    told = mean + jnp.sqrt(var) * sent.noise
    for world, when in moments:
        for k, t in enumerate(when):
            np.testing.assert_array_equal(sent.counts[k, world], [1, 1, 0 if (world, t) == (0, 8) else 1])
            np.testing.assert_array_equal(sent.state[k, world], seen.state[t, world])
            np.testing.assert_array_equal(sent.x[k, world], x[t, world])
            np.testing.assert_array_equal(sent.future[k, world], jnp.concatenate([x[t + 1, world], x[t + 2, world]], -1))
            np.testing.assert_allclose(told[k, world], z[t, world], rtol=1e-5, atol=1e-6)
    assert (sent.counts[2, 1] == 0).all(), "world 1 has fewer"


@pytest.mark.parametrize("interval", [1, 2, 4])
def test_z_is_the_same_inside_an_interval_and_another_in_the_next(interval, key):
    agent, seen = coached(key, interval), experience(key, 21)
    z = np.asarray(unroll(agent, jnp.zeros((B, N, agent.carry_dim)), seen, key)[1][..., 8:-1])
    for t in range(1, 21):
        same = (z[t] == z[t - 1]).all((-1, -2))
        assert same.all() if t % interval else not same.any()


def test_every_loss_unrolls_the_learning_agent_with_the_key_that_an_auxiliary_can_know(monkeypatch, key):
    asked = []

    def spy(agent, some, key):
        asked.append((agent, jax.random.key_data(key).tolist()))
        return values_of(agent, some, key)

    monkeypatch.setattr(q_learning, "values_of", spy)
    for mixer in bases.BASES:
        algorithm = bases.build(SPEC, mixer=mixer, **TINY)
        params = algorithm.init(key)
        carry = jax.tree.map(lambda x: x[:B], algorithm.init_carry(B))
        asked.clear()
        algorithm.loss(params, algorithm.init_target(params), segment(experience(key, 4), carry), key)
        keys = [given for agent, given in asked if agent is params.agent]
        assert keys[0] == jax.random.key_data(online_key(key)).tolist(), mixer


def copa_gradient(key, vi_weight):
    algorithm = copa.build(SPEC, mixer="vdn", interval=3, latent=4, vi_weight=vi_weight, **TINY)
    params = algorithm.init(key)
    some = segment(experience(key, 7), jnp.zeros((B, N, params.agent.carry_dim)))
    loss = lambda params: algorithm.loss(params, algorithm.init_target(params), some, key)  # noqa: E731
    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    return value, metrics, gradient.agent


@pytest.mark.long
def test_the_variational_term_teaches_coach_and_recogniser_and_not_the_players(key):
    without, metrics, gradient = copa_gradient(key, 0.0)
    with_it, _, gradient_with = copa_gradient(key, 0.2)
    term = 0.5 * 0.2 * (float(metrics["surprise"]) - float(metrics["entropy"]) / 10)
    assert with_it - without == pytest.approx(term, rel=1e-3)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient.recogniser))
    moved = jax.tree.map(lambda a, b: bool((abs(a - b) > 1e-7).any()), gradient, gradient_with)
    assert all(jax.tree.leaves(moved.recogniser)) and all(jax.tree.leaves(moved.players.agent.latent))
    assert not any(jax.tree.leaves((moved.players.agent.core, moved.players.agent.encoder, moved.players.agent.out)))


def test_who_plays_needs_no_recogniser(key):
    algorithm = copa.build(SPEC, **TINY)
    params = algorithm.init(key)
    assert isinstance(algorithm.policies["greedy"].agent(params), Broadcast)
    decision = jax.tree.map(lambda x: x[0], experience(key, 1))
    carry = algorithm.init_carry(B)
    played, trained = (
        act(params, carry, decision, key, jnp.float32(0)) for act in (algorithm.policies["greedy"].act, algorithm.act)
    )
    np.testing.assert_array_equal(played[0], trained[0])
    np.testing.assert_array_equal(played[1], trained[1])


# -- settings --------------------------------------------------------------------------------------------------------------


def test_ptdes_copa_is_the_unified_teacher(key):
    one = copa.build(SPEC, variant="ptde", latent=6, **TINY).init(key)
    other = ptde.teacher(SPEC, personaliser="giu", latent=6, **TINY).init(key)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    shapes = lambda tree: [leaf.shape for leaf in jax.tree.leaves(tree)]  # noqa: E731
    assert shapes(one) == shapes(other)


def test_csrl_is_the_personalised_teacher_without_a_distribution(key):
    agent = csrl.build(SPEC, latent=6, **TINY).init(key).agent
    assert isinstance(agent, PersonalisedAgent) and isinstance(agent.latent, DirectLatent)
    other = ptde.teacher(SPEC, latent=6, **TINY).init(key).agent
    assert jax.tree.structure(agent.latent.personalise) == jax.tree.structure(other.latent.personalise)
    assert isinstance(csrl.build(SPEC, interval=3, **TINY).init(key).agent, Broadcast)


def test_what_does_not_fit_is_refused_before_training():
    with pytest.raises(NotOffered, match=r"probe/lever does not list them; variant 'ptde' reads any state") as refused:
        copa.build(probe.Lever().spec)
    assert refused.value.offers(SPEC) and not refused.value.offers(probe.Lever().spec)
    with pytest.raises(UnknownName, match="did you mean 'coach'"):
        copa.build(SPEC, variant="coac")
    for build in (lambda: copa.build(SPEC, interval=0), lambda: csrl.build(SPEC, interval=0)):
        with pytest.raises(BadSetting, match="interval is 0"):
            build()
    with pytest.raises(UnknownName, match="mixer"):
        cadp.build(SPEC, mixer="qmx")


def test_the_three_are_known_by_name_with_the_recipes_of_the_field():
    for name, build in METHODS_HERE.items():
        method = METHODS[name]
        assert method.build is build and set(method.presets) == {"pymarl", "pymarl2"}
        assert type(method.presets["pymarl2"]) is type(method.settings)
    assert METHODS["copa"].settings.variant == "coach"


# -- through the learner ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Orders(Lever):
    """A lever that stays an agent's own for the whole episode; nothing is seen of it, and slot i of the state is agent i's.

    Who reads the state once, at the beginning, and says to each what is in its slot, has solved it: so can a coach. A local team
    can only guess, at every step anew, since nobody tells it what was right.
    """

    hint: float = 0.0
    length: int = 4

    @property
    def spec(self):
        return dataclasses.replace(super().spec, name="test/orders", state_slots=super().spec.other_slots, other_slots=())

    def reset(self, key):
        return super().reset(key)._replace(slot=jnp.arange(self.n_agents))

    def step(self, state: LeverState, action, key):
        after, outcome = super().step(state, action, key)
        return state._replace(step=after.step, all_right=after.all_right), outcome

    def observe(self, state: LeverState):
        seen = super().observe(state)
        return seen._replace(obs=jnp.ones_like(seen.obs))


@dataclasses.dataclass(frozen=True)
class Notes(Lever):
    """Every agent sees the lever of the next one: each has to be told its own by another. The state is empty."""

    hint: float = 0.0
    length: int = 2

    def observe(self, state: LeverState):
        seen = super().observe(state)
        next_lever = jnp.roll(jax.nn.one_hot(state.secret[state.slot], self.levers), -1, axis=0)
        obs = jnp.zeros_like(seen.obs).at[:, : self.levers].set(next_lever)
        return seen._replace(obs=obs, state=0 * seen.state)


LEVER, ORDERS, NOTES = probe.Lever(length=2), Orders(), Notes()
THROUGH = {
    "csrl": lambda: csrl.build(ORDERS.spec, interval=2, latent=6, **SHORT),
    "copa": lambda: copa.build(ORDERS.spec, latent=6, **SHORT),
    "copa ow-qmix": lambda: copa.build(ORDERS.spec, latent=6, mixer="ow-qmix", **SHORT),
    "copa each step": lambda: copa.build(ORDERS.spec, latent=6, interval=1, **SHORT),
    "copa ptde": lambda: copa.build(ORDERS.spec, variant="ptde", latent=6, **SHORT),
    "cadp": lambda: cadp.build(ORDERS.spec, prune_after=48, **SHORT),
    "cadp qplex": lambda: cadp.build(ORDERS.spec, mixer="qplex", prune_after=0, **SHORT),
}


@pytest.mark.parametrize("name", gated(THROUGH))
def test_all_go_through_the_learner_on_two_devices_however_the_run_is_cut(name):
    learner = Learner(ORDERS, THROUGH[name](), worlds=4, devices=2)
    ends = []
    for cuts in ([4], [1, 3]):
        state = learner.init(jax.random.key(0))
        for n in cuts:
            state, report = learner.advance(state, n, learner.phase(int(state.steps)))
        ends.append(state)
        assert int(state.updates) == 4 and (report.metrics["gradient_norm"] > 0).all()
        assert all(np.isfinite(values).all() for values in report.metrics.values())
    for one, other in zip(*map(jax.tree.leaves, ends), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


# -- learning --------------------------------------------------------------------------------------------------------------


def played(env, trained, policy=None, episodes=512):
    found = evaluator(env, trained.algorithm.policies[policy or trained.algorithm.main], episodes)
    return float(found(trained.params, jax.random.key(7)).returns.mean())


def learned(env, algorithm, steps):
    return train(env, algorithm, steps=steps, worlds=16, devices=1)


@pytest.mark.slow
@pytest.mark.long
def test_a_commander_reaches_what_no_local_team_can():
    trained = learned(LEVER, csrl.build(LEVER.spec, latent=16, **SMALL), 60_000)
    assert played(LEVER, trained) > 0.97 * LEVER.optimum


@pytest.mark.slow
@pytest.mark.long
def test_a_unified_latent_helps_a_little():
    # Which of the levers is the right one most often, that can be said to all alike.
    trained = learned(LEVER, copa.build(LEVER.spec, variant="ptde", latent=16, **SMALL), 60_000)
    assert LEVER.local_optimum + 0.1 < played(LEVER, trained) < 0.9 * LEVER.optimum


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["copa", "csrl"])
def test_a_word_at_the_beginning_of_an_interval_is_enough_where_orders_stand(name):
    trained = learned(ORDERS, METHODS_HERE[name](ORDERS.spec, interval=4, latent=16, **SMALL), 60_000)
    assert played(ORDERS, trained) > 0.95 * ORDERS.optimum > ORDERS.local_optimum
    if name == "copa":
        assert trained.rows[-1]["surprise"] < trained.rows[0]["surprise"]


@pytest.mark.slow
@pytest.mark.long
def test_advice_reaches_what_no_local_team_can_and_is_what_the_student_lacks():
    trained = learned(NOTES, cadp.build(NOTES.spec, head_width=8, prune_after=10**9, **SMALL), 60_000)
    assert played(NOTES, trained, "teacher") > 0.95 * NOTES.optimum
    assert played(NOTES, trained, "student") < NOTES.local_optimum + 0.06
    assert trained.rows[-1]["own_attention"] < 0.6


@pytest.mark.slow
@pytest.mark.long
def test_pruned_agents_do_without_advice():
    trained = learned(LEVER, cadp.build(LEVER.spec, head_width=8, prune_after=20_000, **SMALL), 60_000)
    assert trained.rows[-1]["own_attention"] > 0.9 > trained.rows[0]["own_attention"]
    student, teacher = (played(LEVER, trained, name) for name in ("student", "teacher"))
    assert abs(student - teacher) < 0.05
    assert 0.95 * LEVER.local_optimum < student < LEVER.local_optimum + 0.06
