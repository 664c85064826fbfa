"""The papers: their numbers by hand, their gradients, and that they learn games whose best return is known."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

from limbeck.envs import probe
from limbeck.evaluate import evaluator
from limbeck.learn import Learner
from limbeck.methods import METHODS, bases, ptde
from limbeck.methods.ptde import Rows, StudentParams, StudentSettings, TeacherSettings, match_mean
from limbeck.methods.q_learning import QParams, QSettings, online_of
from limbeck.methods.value_decomposition import td_loss
from limbeck.nets.greedy import eps_greedy
from limbeck.nets.mixers import Independent, Sum
from limbeck.train import train
from limbeck.types import Decision, Segment

SMALL = {
    **{"hidden": 16, "embed": 8, "hyper": 16, "segment": 8, "batch": 16, "buffer": 2000},
    **{"eps_steps": 4000, "lr": 3e-3, "target_every": 20, "gamma": 0.9, "td_lambda": 0.6, "updates": 1},
}


# -- by hand ---------------------------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Table:
    """An agent without memory whose values stand in a table: observation -> a row of it."""

    q: jax.Array

    def encode(self, decisions, key):
        return jnp.zeros((*decisions.obs.shape[:-1], 1)), decisions.obs[..., 0].astype(int)

    def step(self, drive, hidden):
        return hidden

    def head(self, hidden, extra):
        return self.q[extra]


def segment():
    """Two agents, three transitions, one world. Agent 0 sees 0, 1, 0, 1; agent 1 sees 1, 1, 0, 0. Transition 1 ends an episode."""
    obs = jnp.array([[0, 1], [1, 1], [0, 0], [1, 0]], jnp.float32)[:, None, :, None]
    avail_actions = jnp.ones((4, 1, 2, 2), bool).at[3, 0, 0, 1].set(False)  # agent 0's better one is missing at the end
    decisions = Decision(
        obs, jnp.zeros((4, 1, 1)), avail_actions, jnp.ones((4, 1, 2), bool), jnp.zeros((4, 1, 2), int), jnp.zeros((4, 1), bool)
    )
    action = jnp.array([[0, 1], [1, 1], [1, 0]])[:, None]
    terminated = jnp.array([False, True, False])[:, None]
    return Segment(decisions, action, jnp.array([[1.0], [2.0], [3.0]]), terminated, jnp.ones((3, 1)), jnp.zeros((1, 2, 1)))


HALVES = QSettings(gamma=0.5, td_lambda=0.5)
ONLINE, LAGGED = jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.array([[10.0, 20.0], [40.0, 30.0]])


def loss_of(params, target, settings):
    online = online_of(params.agent, segment(), jax.random.key(0))
    return td_loss(params, target, segment(), online, jax.random.key(0), settings)


def test_the_td_loss_by_hand():
    # Q_tot of what was done:  t0: 1 + 5 = 6    t1: 5 + 5 = 10    t2: 2 + 1 = 3
    # Best by the learning table, valued by the lagged one (double Q):
    #   decision 1: both action 1 in row 1:  30 + 30 = 60
    #   decision 3: agent 0 may only do action 0 of row 1: 40;  agent 1 action 1 of row 0: 20;  60
    # gamma 0.5, lambda 0.5:  G_2 = 3 + 0.5 * 60 = 33;  G_1 = 2;  G_0 = 1 + 0.5 * (0.5 * 60 + 0.5 * 2) = 16.5
    # errors 6 - 16.5, 10 - 2, 3 - 33  ->  (110.25 + 64 + 900) / 3 / 2
    found, metrics = loss_of(QParams(Table(ONLINE), Sum()), QParams(Table(LAGGED), Sum()), HALVES)
    assert found == pytest.approx((110.25 + 64 + 900) / 6)
    assert metrics["td_error"] == pytest.approx((10.5 + 8 + 30) / 3)
    assert metrics["q_taken"] == pytest.approx(19 / 3) and metrics["target"] == pytest.approx((33 + 2 + 16.5) / 3)


def test_independent_learners_have_an_error_each_by_hand():
    # Agent 0: q 1, 5, 2; values of decisions 1 and 3: 30, 40.  Agent 1: q 5, 5, 1; values 30, 20.  lambda = 0, gamma 0.5:
    # targets of agent 0: 16, 2, 23; of agent 1: 16, 2, 13  ->  errors -15, 3, -21 and -11, 3, -12
    mixer = Independent()
    settings = dataclasses.replace(HALVES, td_lambda=0.0)
    found, _ = loss_of(QParams(Table(ONLINE), mixer), QParams(Table(LAGGED), mixer), settings)
    assert found == pytest.approx((225 + 9 + 441 + 121 + 9 + 144) / 12)


def test_gradients_flow_into_the_taken_values_of_the_learning_network_alone():
    def loss(online, lagged):
        return loss_of(QParams(Table(online), Sum()), QParams(Table(lagged), Sum()), HALVES)[0]

    by_online, by_lagged = jax.grad(loss, (0, 1))(ONLINE, LAGGED)
    assert (by_lagged == 0).all()
    # Taken are: row 0: action 0 at t0, 1 and 0 at t2; row 1: action 1 four times... each with its transition's error / 3.
    np.testing.assert_allclose(by_online, [[(-10.5 - 30) / 3, -30 / 3], [0, (-10.5 + 8 + 8) / 3]], rtol=1e-5)


def test_the_target_is_copied_exactly_every_so_many_updates():
    env = probe.Matrix()
    algorithm = bases.build(env.spec, QSettings(mixer="vdn", **(SMALL | {"target_every": 3})))
    learner = Learner(env, algorithm, worlds=2, devices=1)
    state = learner.init(jax.random.key(0))
    weight = lambda tree: np.asarray(tree.agent.out.weight)  # noqa: E731
    copied = weight(state.params)
    for update in range(1, 8):
        state, _ = learner.advance(state, 1, learner.phase(int(state.steps)))
        if update % 3 == 0:
            copied = weight(state.params)
        np.testing.assert_array_equal(weight(state.target.params), copied)
        assert update % 3 == 0 or not np.array_equal(weight(state.params), copied)


def test_exploring_chooses_evenly_among_what_is_available_and_the_greedy_the_best_of_it():
    some = segment().decisions
    decision = jax.tree.map(lambda x: jnp.repeat(x[3], 3000, 0), some)
    act = jax.jit(lambda eps: eps_greedy(Table(ONLINE), jnp.zeros((3000, 2, 1)), decision, jax.random.key(0), eps)[0])
    best = np.asarray(act(0.0))
    assert (best == [0, 1]).all()
    random = np.asarray(act(1.0))
    assert (random[:, 0] == 0).all() and abs(random[:, 1].mean() - 0.5) < 0.05
    half = np.asarray(act(0.5))
    assert abs((half[:, 1] == 0).mean() - 0.25) < 0.04


def test_the_distillation_loss_by_hand():
    spec = probe.Lever().spec
    teacher = ptde.teacher(spec, TeacherSettings(latent=2, **SMALL)).init(jax.random.key(0)).agent
    latent = jax.tree.map(jnp.zeros_like, ptde.LocalLatent(spec, 2, 2, jax.random.key(0)))  # guesses (0, 0) for everything
    mean = jnp.array([[1.0, 2.0], [3.0, 0.0], [100.0, 100.0]])
    rows = Rows(jnp.zeros((3, latent.first.in_features)), mean, jnp.array([1.0, 1.0, 0.0]))  # the third is dead
    params = StudentParams(latent, teacher)
    (loss, _), gradient = jax.value_and_grad(match_mean, has_aux=True)(params, (), rows, jax.random.key(0))
    assert loss == (1 + 4 + 9 + 0) / 2
    np.testing.assert_array_equal(gradient.latent.rest.second.bias, [-2 * 4 / 2, -2 * 2 / 2])
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient.teacher))


# -- learning --------------------------------------------------------------------------------------------------------------


def played(env, trained, policy=None, episodes=512):
    policy = policy or next(iter(trained.algorithm.policies))
    found = evaluator(env, trained.algorithm.policies[policy], episodes)(trained.params, jax.random.key(7))
    return float(found.returns.mean())


ALIKE = [name for name, method in METHODS.items() if not method.world]  # the others: test_distil


@pytest.mark.parametrize("name", gated(ALIKE, "qmix"))
def test_every_method_finds_the_best_joint_action(name):
    env = probe.Matrix()
    small = SMALL | {"latent": 8, "critic_lr": 3e-3}
    if name == "qtran":  # its agents follow a joint value that has to be learned first
        small["updates"] = 8
    known = METHODS[name].settings
    settings = dataclasses.replace(known, **{setting: value for setting, value in small.items() if hasattr(known, setting)})
    trained = train(env, METHODS[name].build(env.spec, settings), steps=24_000, worlds=16, devices=1)
    assert played(env, trained, episodes=16) == env.optimum


def test_a_light_is_remembered_and_forgotten_when_the_next_episode_begins():
    env = probe.Switch(delay=2)
    settings = SMALL | {"segment": 12, "eps_steps": 20_000, "td_lambda": 0.9, "lr": 5e-3, "updates": 2}
    trained = train(env, bases.build(env.spec, QSettings(mixer="vdn", **settings)), steps=120_000, worlds=16, devices=1)
    assert played(env, trained) > 0.98


LEVER, WHISPER = probe.Lever(length=2), probe.whisper(length=2)


@cache
def teacher(encrypted, personaliser="gip"):
    env = WHISPER if encrypted else LEVER
    algorithm = ptde.teacher(env.spec, TeacherSettings(personaliser=personaliser, latent=16, **SMALL))
    return train(env, algorithm, steps=40_000, worlds=16, devices=1)


@cache
def student(encrypted, updates=3000):
    env = WHISPER if encrypted else LEVER
    settings = StudentSettings(updates=updates, batch=256, rows=20_000, segment=32)
    return train(env, ptde.student(env.spec, teacher(encrypted).params, settings), worlds=16, devices=1)


def test_a_privileged_teacher_reaches_what_no_local_team_can():
    assert played(LEVER, teacher(False)) > 0.97 * LEVER.optimum > LEVER.local_optimum + 0.06


@pytest.mark.long
def test_a_local_team_does_not_pass_what_its_view_allows():
    local = train(LEVER, bases.build(LEVER.spec, QSettings(**SMALL)), steps=30_000, worlds=16, devices=1)
    assert played(LEVER, local) < LEVER.local_optimum + 0.06


@pytest.mark.long
def test_unified_information_does_not_replace_personal_information():
    # What to read in the state depends on the agent's slot: a unified latent has to leave that to the head, which is linear in it.
    assert played(LEVER, teacher(False, "giu")) < played(LEVER, teacher(False)) - 0.2


def test_a_student_keeps_what_can_be_told_from_its_own_observation():
    assert played(WHISPER, student(True), "teacher") > 0.97 * WHISPER.optimum
    assert played(WHISPER, student(True)) > 0.9 * played(WHISPER, teacher(True))


def test_a_student_cannot_do_better_than_its_view_allows():
    found = played(LEVER, student(False, 1000))
    assert 0.9 * LEVER.local_optimum < found < LEVER.local_optimum + 0.06


def test_distilling_moves_the_student_alone_and_explains_most_of_the_latent():
    trained = student(True)
    for before, after in zip(jax.tree.leaves(teacher(True).params.agent), jax.tree.leaves(trained.params.teacher), strict=True):
        assert np.asarray(before).tobytes() == np.asarray(after).tobytes()
    # 1 would be a guess of the mean for everything.
    assert trained.rows[-1]["validation_unexplained"] < 0.5
    assert trained.rows[-1]["validation_loss"] < 1.5 * trained.rows[-1]["loss"], "rows held out are no worse than those trained on"
