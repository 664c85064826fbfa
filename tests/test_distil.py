"""Teachers and students that learn at once: losses by hand, who gets a gradient from what, who sees what, and that they learn."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

from limbeck.distil import (
    Both,
    Student,
    Taught,
    apart,
    match_action,
    match_latent,
    match_policy,
    match_q,
    over_agents,
    together,
)
from limbeck.envs import probe, registry
from limbeck.errors import BadSetting, NotOffered, UnknownName
from limbeck.evaluate import evaluate
from limbeck.methods import bases, ctds, ddn, igm_da
from limbeck.nets.agents import RecurrentAgent
from limbeck.nets.blocks import BlockAgent, Features, ObservationHypernetwork, RawState
from limbeck.nets.carried import Carried
from limbeck.nets.unroll import Values, early, unroll
from limbeck.runs import RunConfig, build, make_env, start
from limbeck.train import train
from limbeck.types import FULL, LOCAL, Decision, EnvSpec, Observation, Outcome, Segment

TINY = {"hidden": 8, "embed": 4, "hyper": 8}
SPEC = EnvSpec("test/all", 3, 4, 5, 9, 10, state_slots=((0, 2), (2, 4), (4, 6)), full_obs=True)
N, A, B = SPEC.n_agents, SPEC.n_actions, 2
BUILDERS: dict[str, Any] = {
    "ctds": lambda **changes: ctds.build(SPEC, **(TINY | changes)),
    "igm-da": lambda **changes: igm_da.build(SPEC, **(TINY | changes)),
    "igm-bc": lambda **changes: igm_da.build(SPEC, **(TINY | changes), variant="bc"),
    "ddn": lambda **changes: ddn.build(SPEC, **(TINY | {"width": 6} | changes)),
}


def experience(key, length):
    keys = jax.random.split(key, 4)
    shape = (length, B, N)
    return Decision(
        obs=jax.random.normal(keys[0], (*shape, SPEC.obs_dim)),
        state=jax.random.normal(keys[1], (length, B, SPEC.state_dim)),
        avail_actions=jnp.ones((*shape, A), bool).at[..., 1, 3].set(False),
        alive=jnp.ones(shape, bool).at[2:, 0, 2].set(False),
        last_action=jax.random.randint(keys[2], shape, -1, A),
        is_first=jnp.zeros((length, B), bool).at[0].set(True),
        full_obs=jax.random.normal(keys[3], (*shape, SPEC.obs_dim)),
    )


def segment(key, algorithm, length=5):
    seen = experience(key, length + 1)
    action = jnp.zeros((length, B, N), jnp.int32)
    reward = jax.random.normal(key, (length, B))
    terminated = jnp.zeros((length, B), bool).at[2, 0].set(True)
    return Segment(seen, action, reward, terminated, jnp.ones((length, B)), algorithm.init_carry(B))


# -- matching, by hand -----------------------------------------------------------------------------------------------------

Q = jnp.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
TARGET = jnp.array([[2.0, 0.0, 5.0], [1.0, 4.0, 2.0]])
AVAIL = jnp.array([[True, True, False], [True, True, True]])


def test_squared_errors_by_hand():
    np.testing.assert_allclose(match_q(Q, TARGET), [1 + 4 + 25, 1 + 16 + 1])
    np.testing.assert_allclose(match_q(Q, TARGET, AVAIL), [1 + 4, 1 + 16 + 1])
    np.testing.assert_allclose(match_latent(Q, TARGET), [30, 18])


def test_the_divergence_by_hand():
    # Two actions with target 0 and log 3: p = 1/4, 3/4.  Student equal values: 1/2 each.
    target, q = jnp.array([0.0, math.log(3.0), 7.0]), jnp.array([5.0, 5.0, -9.0])
    avail = jnp.array([True, True, False])
    by_hand = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert match_policy(q, target, avail) == pytest.approx(by_hand, abs=1e-6)
    assert match_policy(2 * q, 2 * target, avail, temperature=2.0) == pytest.approx(by_hand, abs=1e-6)
    assert match_policy(target, target, avail) == pytest.approx(0.0, abs=1e-6)
    assert match_policy(q[:2], target[:2]) == pytest.approx(by_hand, abs=1e-6)


def test_the_gradient_of_the_divergence_is_finite_where_actions_are_not_available():
    gradient = jax.grad(lambda q: match_policy(q, TARGET, AVAIL).sum())(Q)
    assert jnp.isfinite(gradient).all() and gradient[0, 2] == 0 and jnp.abs(gradient).sum() > 0


def test_regression_on_the_greedy_action_by_hand():
    # Row 0: the best of what is available is action 0 (2.0), although action 2 is worth 5. Row 1: action 1.
    np.testing.assert_allclose(match_action(Q, TARGET, AVAIL), [(0 + 4) / 2, (0 + 1 + 9) / 3])
    np.testing.assert_allclose(match_action(Q, TARGET, AVAIL, only_available=False), [(0 + 4 + 0) / 3, 10 / 3], rtol=1e-6)


def test_means_and_sums_over_agents_by_hand():
    error, alive = jnp.array([[1.0, 3.0], [5.0, 100.0]]), jnp.array([[True, True], [True, False]])
    assert over_agents(error, alive) == pytest.approx((1 + 3 + 5) / 3)
    assert over_agents(error, alive, mean=False) == pytest.approx((4 + 5) / 2)


@pytest.mark.parametrize("match", [match_q, match_latent, match_policy, lambda q, t: match_action(q, t, AVAIL)])
def test_targets_get_no_gradient(match):
    assert (jax.grad(lambda target: match(Q, target).sum())(TARGET) == 0).all()


# -- who learns from what --------------------------------------------------------------------------------------------------


def loss_parts(algorithm, key, target=None):
    params = jax.jit(algorithm.init)(key)
    some = segment(jax.random.key(5), algorithm)
    lagged = algorithm.init_target(params)
    return params, some, lagged


def taught(params):
    return params.double if isinstance(params, ddn.Curious) else params


@pytest.mark.parametrize("name", BUILDERS)
def test_a_students_loss_leaves_the_teachers_gradients_as_they_are_without_it(name):
    algorithm = BUILDERS[name]()
    key = jax.random.key(1)
    params, some, lagged = loss_parts(algorithm, key)
    with_student = taught(jax.jit(jax.grad(lambda p: algorithm.loss(p, lagged, some, key)[0]))(params))
    distance = taught(jax.jit(jax.grad(lambda p: algorithm.loss(p, lagged, some, key)[1]["distil_loss"]))(params))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(distance.teacher)), "exactly zero"
    assert all(jnp.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(distance.student) if leaf.ndim > 1)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(with_student))
    assert sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(with_student.teacher)) > 0


@pytest.mark.parametrize("name", BUILDERS)
def test_the_student_sees_what_it_may_see_and_the_teacher_more(name):
    algorithm = BUILDERS[name]()
    params = algorithm.init(jax.random.key(0))
    seen = experience(jax.random.key(2), 3)

    def q_of(policy, obs, state, full_obs):
        agent = algorithm.policies[policy].agent(params)
        changed = seen._replace(obs=obs, state=state, full_obs=full_obs)
        return unroll(agent, jnp.zeros((B, N, agent.carry_dim)), changed, jax.random.key(3))[0][:, 0].sum(-1)

    def jacobian(policy):
        of = jax.jit(jax.jacrev(lambda *fields: q_of(policy, *fields), (0, 1, 2)))(seen.obs, seen.state, seen.full_obs)
        return [np.abs(each) for each in of]

    by_obs, by_state, by_full = jacobian("student")
    assert (by_state == 0).all() and (by_full == 0).all()
    of_whom = by_obs.sum((0, 2, 3, 5))  # [agent, agent']
    assert (of_whom[~np.eye(N, dtype=bool)] == 0).all() and (np.diag(of_whom) > 0).all()
    assert algorithm.policies["student"].view == LOCAL
    by_obs, by_state, by_full = jacobian("teacher")
    assert (by_state if name == "ddn" else by_full).sum() > 0


@pytest.mark.parametrize("name", BUILDERS)
def test_both_are_judged_while_they_learn(name):
    algorithm = BUILDERS[name]()
    assert algorithm.judged == ("student", "teacher") and algorithm.main == "student"


@pytest.mark.parametrize(
    ("name", "mixer"),
    gated(
        [("ddn", "vdn"), ("ddn", "qatten"), ("ddn", "qplex"), ("ddn", "ow-qmix"), ("ctds", "cw-qmix"), ("igm-da", "qplex")],
        ("ddn", "ow-qmix"),
        ("igm-da", "qplex"),
    ),
)
def test_they_stand_on_any_mixer(name, mixer):
    algorithm = BUILDERS[name](mixer=mixer)
    params, some, lagged = loss_parts(algorithm, jax.random.key(0))
    loss, metrics = jax.jit(algorithm.loss)(params, lagged, some, jax.random.key(1))
    assert jnp.isfinite(loss) and metrics["distil_loss"] > 0
    carry = algorithm.init_carry(B)
    assert isinstance(carry, Both) and isinstance(carry.teacher, Carried) == mixer.endswith("w-qmix")


def test_each_has_its_own_optimiser_and_its_own_clipping():
    import optax

    step = apart(Taught, teacher=optax.sgd(1.0), student=optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5)))
    params = Taught({"w": jnp.zeros(2)}, jnp.zeros(2))
    gradient = Taught({"w": jnp.array([3.0, 4.0])}, jnp.array([30.0, 40.0]))
    moved, _ = step.update(gradient, step.init(params), params)
    np.testing.assert_allclose(moved.teacher["w"], [-3.0, -4.0])
    np.testing.assert_allclose(moved.student, [-0.3, -0.4], rtol=1e-6)


# -- who plays -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("collects", ["teacher", "student", "mix"])
def test_who_plays_is_who_was_named(collects):
    algorithm = ddn.build(SPEC, **TINY, width=6, collects=collects, mu=0.0)
    params = algorithm.init(jax.random.key(0))
    decision = jax.tree.map(lambda x: x[0], experience(jax.random.key(4), 1))
    action, carry = jax.jit(algorithm.act)(params, algorithm.init_carry(B), decision, jax.random.key(1), jnp.float32(0.0))
    alone = {}
    for name, policy in algorithm.policies.items():
        alone[name], state = jax.jit(policy.act)(params, policy.init_carry(B), decision, jax.random.key(1), jnp.float32(0.0))
        looks_on = collects == "teacher" and name == "student"  # and catches up later
        np.testing.assert_allclose(getattr(carry, name), 0 * state if looks_on else state, rtol=1e-5)
    whose = {"teacher": ["teacher"] * B, "student": ["student"] * B, "mix": ["teacher", "student"]}[collects]
    for world, name in enumerate(whose):
        np.testing.assert_array_equal(action[world], alone[name][world])
    assert (np.asarray(alone["teacher"]) != np.asarray(alone["student"])).any(), "or the test could not fail"
    for world in range(B):  # worlds may act one by one, and each is played by the same
        part = jax.tree.map(lambda x, world=world: x[world : world + 1], (algorithm.init_carry(B), decision))
        np.testing.assert_array_equal(algorithm.act(params, *part, jax.random.key(1), jnp.float32(0.0))[0][0], action[world])


@pytest.mark.parametrize(("collects", "mu"), [("teacher", 0.0), ("teacher", 0.75), ("student", 0.0)])
def test_a_student_that_looks_on_catches_up_with_what_it_would_have_remembered(collects, mu):
    algorithm = ddn.build(SPEC, **TINY, width=6, collects=collects, mu=mu)
    params, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
    some = segment(jax.random.key(5), algorithm)
    some = some._replace(carry0=some.carry0._replace(student=jax.random.normal(key, some.carry0.student.shape)))
    some = some._replace(decisions=some.decisions._replace(is_first=jnp.zeros((6, B), bool).at[2, 1].set(True)))
    alone = some.carry0.student
    for t in range(5):  # decision 5 is the next segment's first
        decision = jax.tree.map(lambda x, t=t: x[t], some.decisions)
        _, alone = jax.jit(algorithm.policies["student"].act)(params, alone, decision, key, jnp.float32(0.0))
    caught_up = jax.jit(algorithm.catch_up)(params, some.carry0, some)
    expected = alone if collects == "teacher" else some.carry0.student
    np.testing.assert_allclose(caught_up.student, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(caught_up.teacher, some.carry0.teacher)


def test_nobody_else_can_play():
    with pytest.raises(UnknownName, match=r"collector 'nobody'.*mix"):
        ddn.build(SPEC, **TINY, collects="nobody")


# -- IGM-DA: the expert's return follows the learner -----------------------------------------------------------------------


@dataclasses.dataclass
class Numbers:
    """An agent whose values are given."""

    q: Any

    carry_dim = 1

    def encode(self, decisions, key):
        return decisions.last_action[..., None].astype(jnp.float32), None

    def step(self, drive, hidden):
        return hidden

    def head(self, hidden, extra):
        return jnp.broadcast_to(self.q, (*hidden.shape[:-1], self.q.shape[-1]))


jax.tree_util.register_dataclass(Numbers, ["q"], [])


@pytest.mark.parametrize(("chooses", "value"), [(True, 10.0), (False, 7.0)])
def test_the_return_is_built_on_the_actions_of_the_learner(chooses, value):
    # Expert: actions 0 to 3 are worth 1, 9, 2, 3; lagged: 5, 7, 10, 6.  The learner prefers action 2, the expert action 1.
    expert, lagged = jnp.array([1.0, 9.0, 2.0, 3.0]), jnp.array([5.0, 7.0, 10.0, 6.0])
    spec = dataclasses.replace(SPEC, n_agents=1)
    teacher = bases.learn_on_base(spec, bases.QSettings(mixer="vdn", gamma=0.5, td_lambda=0.0), lambda key: Numbers(expert), FULL)
    student = Student(lambda key: Numbers(jnp.array([0.0, 1.0, 4.0, 2.0])), lambda *_: (jnp.float32(0), {}), teacher.optimiser)
    algorithm = together(spec, teacher, dataclasses.replace(student, chooses=chooses))
    params = algorithm.init(jax.random.key(0))
    target = algorithm.init_target(params)
    target = target._replace(params=target.params._replace(agent=Numbers(lagged)))
    seen = jax.tree.map(lambda x: x[:2, :1, :1] if x.ndim > 2 else x[:2, :1], experience(jax.random.key(0), 2))
    seen = seen._replace(avail_actions=jnp.ones((2, 1, 1, A), bool))
    zero = jnp.zeros((1, 1))
    some = Segment(seen, jnp.zeros((1, 1, 1), jnp.int32), zero + 3.0, zero > 0, zero + 1, algorithm.init_carry(1))
    _, metrics = jax.jit(algorithm.loss)(params, target, some, jax.random.key(1))
    assert metrics["target"] == pytest.approx(3.0 + 0.5 * value) and metrics["q_taken"] == pytest.approx(1.0)


def test_the_learner_of_igm_da_knows_which_actions_are_available():
    algorithm = BUILDERS["igm-da"]()
    agent, seen = algorithm.init(jax.random.key(0)).student, experience(jax.random.key(2), 2)
    other = seen._replace(avail_actions=seen.avail_actions.at[1, 0, 0, 2].set(False))
    q, changed = (unroll(agent, jnp.zeros((B, N, 8)), each, jax.random.key(0))[0] for each in (seen, other))
    assert (q[1, 0, 0] != changed[1, 0, 0]).any()
    differs = np.asarray(q != changed).any(-1)
    assert differs.sum() == 1, "and of nobody else's"


# -- DDN -------------------------------------------------------------------------------------------------------------------


def test_the_observation_block_is_what_the_paper_writes():
    block = ObservationHypernetwork(7, 5, 4, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 2, 7))
    one_by_one = jax.vmap(jax.vmap(block.built))(x)
    np.testing.assert_allclose(block(x), one_by_one, rtol=1e-4, atol=1e-5)


def test_the_raw_state_is_read_alike_by_all_agents():
    raw = RawState(7, 5, 4, jax.random.key(0))
    x, state = jnp.ones((2, 3, 7)), jax.random.normal(jax.random.key(1), (2, 5))
    g = raw(x, state)
    np.testing.assert_allclose(g[:, 0], g[:, 1])
    np.testing.assert_allclose(g[0, 0], raw.read(jnp.concatenate([state[0], x[0, 0]])), rtol=1e-5, atol=1e-6)


def test_the_external_distillation_by_hand():
    def values(q, block, first):
        return Values(q, q, Features(block, first))

    # One decision, one world, two agents, of which the second is dead; one action of two is not available to nobody.
    alive = jnp.array([[[True, False]]])
    local = experience(jax.random.key(0), 2)
    seen = jax.tree.map(lambda x: x[:, :1], local)._replace(
        alive=jnp.concatenate([alive, alive]), avail_actions=jnp.ones((2, 1, 2, 2), bool)
    )
    seen = early(seen)
    even, odd = jnp.zeros((1, 1, 2, 2)), jnp.broadcast_to(jnp.array([0.0, math.log(3.0)]), (1, 1, 2, 2))
    divergence = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    own, taught = values(even, even + 1, even), values(odd, odd, odd)
    weights = ddn.DDNSettings(block_weight=2.0, q_weight=3.0, feature_weight=5.0)
    total, parts = ddn.external(own, taught, seen, weights)
    block = (1 + (math.log(3.0) - 1) ** 2) / 2
    assert parts["loss_block"] == pytest.approx(block, rel=1e-5)
    assert parts["loss_q"] == pytest.approx(divergence, rel=1e-4) and parts["loss_feature"] == pytest.approx(divergence, rel=1e-4)
    assert total == pytest.approx(2 * block + 3 * divergence + 5 * divergence, rel=1e-4)


def novelty_and_segment(mu=0.75, **changes):
    settings = ddn.DDNSettings(mu=mu, **TINY, **changes)
    algorithm = ddn.build(SPEC, settings)
    novelty = ddn.Novelty(SPEC, 64, jax.random.key(0))
    return novelty, segment(jax.random.key(1), algorithm, 400), settings


def test_the_mask_is_a_coin_for_every_transition():
    novelty, some, settings = novelty_and_segment(mu=0.25)
    paid, error, mu = ddn.intrinsic(novelty, some, jax.random.key(2), settings)
    each = novelty.error(some.decisions.state[:-1])
    assert mu == 0.25 and error == pytest.approx(float(each.mean()), rel=1e-5)
    there = np.asarray(paid > 0)
    np.testing.assert_allclose(np.asarray(paid)[there], np.asarray(each)[there], rtol=1e-6)
    assert there.mean() == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / there.size))
    scaled, _, _ = ddn.intrinsic(novelty, some, jax.random.key(2), dataclasses.replace(settings, intrinsic="scale"))
    np.testing.assert_allclose(scaled, 0.25 * each, rtol=1e-5)


def test_novelty_falls_on_repeated_states_and_not_on_new_ones_and_the_falling_mask_with_it():
    import optax

    novelty, some, settings = novelty_and_segment(mu=0.8, intrinsic="falling")
    assert ddn.intrinsic(novelty, some, jax.random.key(0), settings)[2] == pytest.approx(0.8)
    places = 3 * jnp.eye(SPEC.state_dim)  # which one of nine places somebody is in
    known, new = places[:4].reshape(2, 2, -1), places[4:8].reshape(2, 2, -1)
    before, before_new = novelty.error(known).mean(), novelty.error(new).mean()  # as new as each other
    adam = optax.adam(3e-3)
    state = adam.init(novelty)

    @jax.jit
    def step(novelty, state):
        gradient = jax.grad(lambda n: n.error(known).mean())(novelty)
        assert gradient is not None
        moved, state = adam.update(gradient, state)
        return optax.apply_updates(novelty, moved), state

    frozen = jax.tree.leaves((novelty.random, novelty.untrained))
    for _ in range(300):
        novelty, state = step(novelty, state)
    assert novelty.error(known).mean() < 0.1 * before
    assert novelty.error(new).mean() > 0.5 * before_new, "what was never seen stays new"
    for was, is_ in zip(frozen, jax.tree.leaves((novelty.random, novelty.untrained)), strict=True):
        np.testing.assert_array_equal(was, is_)
    seen = some._replace(decisions=some.decisions._replace(state=jnp.tile(known, (201, 1, 1))[:401]))
    assert ddn.intrinsic(novelty, seen, jax.random.key(0), settings)[2] < 0.1


def test_the_guide_is_paid_for_novelty_and_nobody_else_changes():
    paid, plain = ddn.build(SPEC, **TINY, mu=1.0), ddn.build(SPEC, **TINY, mu=0.0)
    params, some, lagged = loss_parts(paid, jax.random.key(0))
    found = jax.jit(paid.loss)(params, lagged, some, jax.random.key(1))[1]
    plain_loss = jax.jit(plain.loss)
    without = plain_loss(params.double, lagged, some, jax.random.key(1))[1]
    extra = params.novelty.error(some.decisions.state[:-1])
    rewarded = plain_loss(params.double, lagged, some._replace(reward=some.reward + extra), jax.random.key(1))[1]
    assert found["target"] == pytest.approx(float(rewarded["target"]), rel=1e-5)
    assert found["target"] != pytest.approx(float(without["target"]), rel=1e-5)
    assert found["distil_loss"] == without["distil_loss"]


def test_wrong_settings_are_named():
    with pytest.raises(BadSetting, match=r"mu is 1\.5; it must be between 0 and 1"):
        ddn.build(SPEC, mu=1.5)
    for setting, value in (("fusion", "deep"), ("intrinsic", "often"), ("student_optimiser", "sgd")):
        with pytest.raises(UnknownName, match=f"unknown {setting} '{value}'"):
            ddn.build(SPEC, **{setting: value})
    with pytest.raises(UnknownName, match="unknown variant 'cloning'"):
        igm_da.build(SPEC, variant="cloning")


# -- worlds that show everything -------------------------------------------------------------------------------------------


def test_a_battle_shows_everything_when_asked():
    env, near = (registry.make("smac/3m", full_obs=True, **settings) for settings in ({}, {"sight_range": 2.0}))
    state = env.reset(jax.random.key(0))
    everything, little = env.observe(state), near.observe(state)
    assert env.spec.full_obs and everything.full_obs.shape == everything.obs.shape
    np.testing.assert_array_equal(everything.full_obs, little.full_obs)
    hidden = np.asarray(everything.obs == 0) & np.asarray(everything.full_obs != 0)
    assert hidden.any(), "the armies begin out of sight of each other"
    seen = np.asarray(everything.obs != 0)
    np.testing.assert_array_equal(np.asarray(everything.obs)[seen], np.asarray(everything.full_obs)[seen])
    assert registry.make("smac/3m").observe(state).full_obs is None


def test_methods_ask_worlds_for_it_and_refuse_those_that_have_none():
    assert make_env(RunConfig("ctds", "smac/3m")).spec.full_obs
    assert not make_env(RunConfig("qmix", "smac/3m")).spec.full_obs
    for method in ("ctds", "igm-da"):
        with pytest.raises(BadSetting, match=r"probe/lever does not offer that.*worlds that fit: .*smac/3m"):
            build(RunConfig(method, "probe/lever"))
    with pytest.raises(NotOffered):
        ctds.build(dataclasses.replace(SPEC, full_obs=False))


# -- they learn ------------------------------------------------------------------------------------------------------------


class Hidden:
    """Each of two agents has a secret bit, which it sees in half of the episodes; the teacher always does. Reward: the share of
    agents that name theirs. Best 1; best for local agents 3/4.
    """

    spec = EnvSpec("test/hidden", 2, 2, 2, 2, episode_limit=1, full_obs=True, unit_scale=True)

    def reset(self, key):
        return jax.random.bernoulli(key, 0.5, (2, 2)).astype(jnp.float32)  # [secret or shown, agent]

    def step(self, state, action, key):
        reward = (action == state[0]).mean()
        return state, Outcome(reward, jnp.bool_(True), jnp.bool_(False), {"won": reward == 1})

    def observe(self, state):
        secret, shown = 2 * state[0] - 1, state[1]
        return Observation(
            obs=jnp.stack([secret * shown, shown], -1),
            state=secret,
            avail_actions=jnp.ones((2, 2), bool),
            alive=jnp.ones(2, bool),
            full_obs=jnp.stack([secret, shown], -1),
        )


QUICK = {"hidden": 16, "embed": 8, "hyper": 16, "segment": 8, "batch": 16, "buffer": 500, "eps_steps": 4000, "lr": 3e-3}


@pytest.mark.parametrize("name", gated(["ctds", "igm-da", "igm-bc", "ddn", "ddn-mix"], "ddn"))
def test_teachers_learn_all_and_students_what_they_can(name):
    env: Any = Hidden()
    builders: dict[str, Any] = {"ctds": ctds.build, "ddn": ddn.build, "igm-da": igm_da.build, "igm-bc": igm_da.build}
    changes = {"igm-bc": {"variant": "bc"}, "ddn-mix": {"collects": "mix", "fusion": "elu", "intrinsic": "falling"}}.get(name, {})
    settings = QUICK | {"target_every": 20, "student_lr": 3e-3} | changes
    if name.startswith("igm"):
        del settings["student_lr"]
    algorithm = builders[name.removesuffix("-mix")](env.spec, **settings)
    trained = train(env, algorithm, steps=16_000, worlds=16, devices=1)
    policies: Any = {which: trained.policy(which) for which in ("teacher", "student")}
    table = evaluate(env, policies, episodes=1024)
    found = {row["policy"] or row["name"]: row["return"] for row in table.rows}
    assert found["teacher"] > 0.97, found
    assert 0.70 < found["student"] < 0.80, found


def test_a_run_tells_of_both(tmp_path):
    settings = TINY | {"segment": 8, "batch": 4, "buffer": 64, "width": 6}
    config = RunConfig("ddn", "probe/lever", settings=settings, steps=2000, worlds=4, evaluations=1, evaluation_episodes=32)
    rows: list[dict] = []
    start(config, tmp_path / "run", rows.append)
    assert {"test_return", "test_teacher_return", "loss_block", "loss_novelty", "mu"} <= rows[-1].keys()
    assert rows[-1]["test_policy"] == "student"


def test_teacher_and_student_of_ddn_are_of_a_kind():
    algorithm = ddn.build(probe.Lever().spec, **TINY)
    params = algorithm.init(jax.random.key(0))
    assert isinstance(params, ddn.Curious)
    agents = [policy.agent(params) for policy in algorithm.policies.values()]
    assert all(isinstance(agent, BlockAgent) for agent in agents)
    assert isinstance(BUILDERS["ctds"]().init(jax.random.key(0)).student, RecurrentAgent)
