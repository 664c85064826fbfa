"""Time: which moment each number belongs to, where episodes end, and that nothing leaks across their borders."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

from limbeck.envs.base import AutoReset
from limbeck.envs.probe import Timeout
from limbeck.learn import Learner
from limbeck.losses import td_lambda
from limbeck.methods import bases
from limbeck.methods.q_learning import QSettings, online_of
from limbeck.methods.value_decomposition import td_loss
from limbeck.nets.agents import RecurrentAgent
from limbeck.nets.greedy import greedy
from limbeck.nets.unroll import decide, unroll
from limbeck.rollout import collect, start
from limbeck.train import train
from limbeck.types import Decision, EnvSpec, Observation, Outcome

SMALL = {"hidden": 8, "embed": 4, "hyper": 8, "td_lambda": 0.6, "updates": 1}


class ClockState(NamedTuple):
    episode: jax.Array
    step: jax.Array


class Clock:
    """Shows the time. Episodes last 3 steps; those that `cut` says are truncated there, the others terminated. Reward: the time."""

    def __init__(self, cut: bool):
        self.cut = cut
        self.spec = EnvSpec("test/clock", n_agents=2, n_actions=5, obs_dim=2, state_dim=1, episode_limit=3)

    def reset(self, key):
        return ClockState(jax.random.randint(key, (), 0, 1_000_000), jnp.int32(0))

    def step(self, state, action, key):
        state = state._replace(step=state.step + 1)
        over = state.step == 3
        outcome = Outcome(state.step.astype(jnp.float32), over & (not self.cut), over & self.cut, {"won": over})
        return state, outcome

    def observe(self, state):
        seen = jnp.stack([state.episode, state.step]).astype(jnp.float32)
        return Observation(jnp.tile(seen, (2, 1)), seen[1:], jnp.ones((2, 5), bool), jnp.ones(2, bool))


T, B = 7, 2


def act(params, carry, decision, key, explore):
    """Counts decisions since the start of the episode in the carry, and acts at random."""
    count = jnp.where(decision.is_first[:, None, None], 0.0, carry) + 1
    return jax.random.randint(key, (B, 2), 0, 5), count


@pytest.fixture(scope="module", params=[False, True], ids=["terminated", "truncated"])
def two_segments(request):
    env = AutoReset(Clock(request.param))
    worlds = start(env, jnp.zeros((B, 2, 1)), jax.random.split(jax.random.key(0), B))
    run = jax.jit(lambda worlds, key: collect(env, act, (), worlds, key, jnp.float32(0), T))
    one = run(worlds, jax.random.key(1))
    two = run(one[0], jax.random.key(2))
    return request.param, one, two


# -- collect ---------------------------------------------------------------------------------------------------------------


def test_a_segment_has_t_transitions_between_t_plus_1_decisions(two_segments):
    _, (_, segment, _), _ = two_segments
    assert {x.shape[:2] for x in jax.tree.leaves(segment.decisions)} == {(T + 1, B)}
    assert {x.shape[:2] for x in (segment.action, segment.reward, segment.terminated, segment.mask)} == {(T, B)}


def test_the_last_decision_of_a_segment_is_the_first_of_the_next(two_segments):
    _, (_, one, _), (_, two, _) = two_segments
    for last, first in zip(*map(jax.tree.leaves, (one.decisions, two.decisions)), strict=True):
        np.testing.assert_array_equal(last[T], first[0])


def test_every_episode_starts_anew_exactly_where_the_last_one_ended(two_segments):
    _, (_, one, _), (_, two, _) = two_segments
    step = np.concatenate([one.decisions.obs[:-1, :, 0, 1], two.decisions.obs[:, :, 0, 1]])
    moments = np.arange(2 * T + 1)
    np.testing.assert_array_equal(step, np.repeat(moments[:, None] % 3, B, 1))
    is_first = np.concatenate([one.decisions.is_first[:-1], two.decisions.is_first])
    np.testing.assert_array_equal(is_first, step == 0)
    episode = np.concatenate([one.decisions.obs[:-1, :, 0, 0], two.decisions.obs[:, :, 0, 0]])
    for t in range(1, 2 * T + 1):
        assert ((episode[t] == episode[t - 1]) == ~is_first[t]).all(), "a new episode is a different one"


def test_last_action_is_the_action_one_decision_before_and_none_at_the_start_of_an_episode(two_segments):
    _, (_, one, _), (_, two, _) = two_segments
    for segment in (one, two):
        before = np.where(segment.decisions.is_first[1:, :, None], -1, segment.action)
        np.testing.assert_array_equal(segment.decisions.last_action[1:], before)
    assert (one.decisions.last_action[0] == -1).all()


def test_transitions_are_masked_exactly_where_they_were_truncated(two_segments):
    cut, (_, one, _), (_, two, _) = two_segments
    ends = np.arange(2 * T) % 3 == 2
    mask, terminated = (np.concatenate([getattr(one, n), getattr(two, n)])[:, 0] for n in ("mask", "terminated"))
    np.testing.assert_array_equal(mask, ~ends if cut else np.ones(2 * T))
    np.testing.assert_array_equal(terminated, np.zeros(2 * T) if cut else ends)
    reward = np.concatenate([one.reward, two.reward])[:, 0]
    np.testing.assert_array_equal(reward, np.arange(2 * T) % 3 + 1), "the reward of a transition, not of a decision"


def test_carry0_is_the_carry_before_decision_0(two_segments):
    _, (after, one, _), (_, two, _) = two_segments
    assert (one.carry0 == 0).all()
    np.testing.assert_array_equal(two.carry0, after.carry)
    # 7 decisions were made: the last of them was the first of the third episode.
    assert (two.carry0 == 1).all()


def test_episodes_are_counted_when_they_end_even_across_segments(two_segments):
    _, (_, _, one), (_, _, two) = two_segments
    assert one.episodes == two.episodes == 2 * B
    assert one.return_sum == two.return_sum == 2 * B * (1 + 2 + 3), "a return goes on from one segment into the next"
    assert one.won_sum == 2 * B


# -- the loss --------------------------------------------------------------------------------------------------------------


def small_segment(border=None, cut=None):
    """Six transitions of one world; the episode ends with transition `border`, or is cut there."""
    algorithm = bases.build(Clock(False).spec, QSettings(**SMALL))
    env = AutoReset(Clock(False))
    worlds = start(env, algorithm.init_carry(B), jax.random.split(jax.random.key(0), B))
    params = algorithm.init(jax.random.key(1))
    _, segment, _ = jax.jit(lambda w: collect(env, algorithm.act, params, w, jax.random.key(2), jnp.float32(1), 6))(worlds)
    obs = jax.random.normal(jax.random.key(3), segment.decisions.obs.shape)
    ended = jnp.zeros((6, B), bool).at[jnp.array([t for t in (border, cut) if t is not None], int)].set(True)
    decisions = segment.decisions._replace(
        obs=obs,
        is_first=jnp.concatenate([jnp.ones((1, B), bool), ended]),
        state=jax.random.normal(jax.random.key(4), segment.decisions.state.shape),
    )
    none = jnp.zeros((6, B), bool)
    terminated = none if border is None else none.at[border].set(True)
    mask = jnp.ones((6, B)) if cut is None else jnp.ones((6, B)).at[cut].set(0.0)
    return params, segment._replace(decisions=decisions, terminated=terminated, mask=mask)


@pytest.mark.parametrize("border", [1, 2, 3])
def test_the_return_is_cut_exactly_at_the_terminated_transition(border):
    # Rewards are what returns are made of. With lambda = 1 the reward of a transition enters the errors of all transitions before
    # it in its episode: change one reward and see which targets move.
    _, segment = small_segment(border=border)
    value_next = jax.random.normal(jax.random.key(5), (6, B))

    def targets(reward, value_next):
        return td_lambda(reward, value_next, segment.terminated, segment.mask, 0.9, 0.8)

    by_reward, by_value = jax.jacobian(targets, (0, 1))(segment.reward, value_next)
    by_reward, by_value = np.abs(by_reward[:, 0, :, 0]), np.abs(by_value[:, 0, :, 0])
    for t in range(6):
        for s in range(6):
            same_episode = (t <= border) == (s <= border)
            assert (by_reward[t, s] > 0) == (t <= s and same_episode)
            assert (by_value[t, s] > 0) == (t <= s and same_episode and s != border), "no value beyond the end, a value elsewhere"


@pytest.mark.parametrize("kind", ["border", "cut"])
def test_nothing_of_one_episode_changes_the_errors_of_the_other(kind):
    # The loss is a mean over transitions, so its gradient by the rewards holds each transition's error: with lambda = 1,
    # dL/dr_s = -sum over t <= s in the episode of error_t gamma^(s-t) / n.
    params, segment = small_segment(**{kind: 2})

    def loss_by_reward(segment):
        def loss(reward):
            key, settings = jax.random.key(0), QSettings(gamma=0.9, td_lambda=1.0)
            online = online_of(params.agent, segment, key)
            return td_loss(params, params, segment._replace(reward=reward), online, key, settings)[0]

        return jax.grad(loss)(segment.reward)

    def moved(at):
        decisions = segment.decisions
        obs = decisions.obs.at[at].add(3.0)
        state = decisions.state.at[at].add(3.0)
        return segment._replace(decisions=decisions._replace(obs=obs, state=state), reward=segment.reward.at[at].add(5.0))

    by_reward = jax.jit(loss_by_reward)
    plain = by_reward(segment)
    second_moved, first_moved = by_reward(moved(jnp.array([3, 4, 5]))), by_reward(moved(jnp.array([0, 1])))
    if kind == "border":
        np.testing.assert_array_equal(plain[:3], second_moved[:3])
        assert (plain[3:] != second_moved[3:]).all()
    else:
        assert (plain[2] == 0).all(), "the reward of a transition that was cut is never used"
        # Decision 3 is another episode's, and so is not the value beyond transition 2 either.
        np.testing.assert_array_equal(plain[:2], second_moved[:2])
    np.testing.assert_array_equal(plain[3:], first_moved[3:])
    assert (plain[:2] != first_moved[:2]).all()


# -- the hidden state ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 15, 16, 17])
def test_nothing_before_the_start_of_an_episode_reaches_beyond_it_and_the_carry_does_before(first):
    spec, length = Clock(False).spec, 20
    agent = RecurrentAgent(spec, 8, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 2)
    shape = (length, B, 2)
    decisions = Decision(
        obs=jax.random.normal(keys[0], (*shape, 2)),
        state=jnp.zeros((length, B, 1)),
        avail_actions=jnp.ones((*shape, 5), bool),
        alive=jnp.ones(shape, bool),
        last_action=jnp.zeros(shape, jnp.int32),
        is_first=jnp.zeros((length, B), bool).at[first, 0].set(True),  # in world 0 alone
    )
    run = jax.jit(lambda hidden, obs: unroll(agent, hidden, decisions._replace(obs=obs), jax.random.key(2))[0])
    carry0 = jax.random.normal(keys[1], (B, 2, 8))
    plain = run(carry0, decisions.obs)
    other = run(carry0 + 1, decisions.obs.at[: first - 1].add(1.0))
    before, after = other[:first, 0] != plain[:first, 0], other[first:, 0] == plain[first:, 0]
    assert before.any(-1).all() and after.all()
    assert (other[first:, 1] != plain[first:, 1]).any(), "world 1 goes on, and remembers"
    hidden, loop = carry0, []
    step = jax.jit(lambda hidden, t: decide(agent, hidden, jax.tree.map(lambda x: x[t], decisions), jax.random.key(2)))
    for t in range(length):
        q, hidden = step(hidden, t)
        loop.append(q)
    np.testing.assert_allclose(plain, jnp.stack(loop), rtol=1e-5, atol=1e-6)


def test_unrolling_from_the_stored_carry_gives_the_values_that_were_acted_on():
    # The greedy actions recomputed from a segment that starts in the middle of an episode are those that were taken.
    env = Timeout(length=11)
    algorithm = bases.build(env.spec, QSettings(**SMALL))
    params = algorithm.init(jax.random.key(0))
    worlds = start(AutoReset(env), algorithm.init_carry(B), jax.random.split(jax.random.key(1), B))
    run = jax.jit(lambda w, key: collect(AutoReset(env), algorithm.act, params, w, key, jnp.float32(0), 8))
    worlds, _, _ = run(worlds, jax.random.key(2))
    _, segment, _ = run(worlds, jax.random.key(3))
    assert not segment.decisions.is_first[0].any() and segment.decisions.is_first[3].all()
    q, *_ = unroll(params.agent, segment.carry0, segment.decisions, jax.random.key(4))
    np.testing.assert_array_equal(greedy(q, segment.decisions.avail_actions)[:-1], segment.action)
    forgetful, *_ = unroll(params.agent, jnp.zeros_like(segment.carry0), segment.decisions, jax.random.key(4))
    assert abs(forgetful[0] - q[0]).max() > 1e-4
    np.testing.assert_allclose(forgetful[3:], q[3:], rtol=1e-5, atol=1e-6)


# -- learning across a time limit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixer", gated(["iql", "qmix"], "iql"))
def test_a_time_limit_is_looked_beyond(mixer):
    """Reward 1 for ever is worth 1 / (1 - gamma) = 5, though no episode is longer than 5 steps (worth at most 3.4)."""
    env = Timeout(length=5)
    settings = QSettings(mixer=mixer, gamma=0.8, lr=5e-3, segment=8, batch=16, buffer=500, target_every=10, eps_steps=1000, **SMALL)
    trained = train(env, bases.build(env.spec, settings), steps=60_000, worlds=16, devices=1)
    assert trained.rows[-1]["q_taken"] == pytest.approx(5.0, abs=0.25)


def test_learners_segments_go_on_where_the_last_ended():
    """Through the learner's own compiled loop: the buffer's rows are continuous streams."""
    env = Clock(False)
    settings = QSettings(segment=4, batch=4, buffer=6, learn_after=10**9, **SMALL)
    learner = Learner(env, bases.build(env.spec, settings), worlds=2, devices=1)
    state = learner.init(jax.random.key(0))
    state, _ = learner.advance(state, 3, learner.phase(0))
    assert int(state.steps) == 24 and int(state.updates) == 0
    rows = state.buffer.data  # [3 slots, 2 worlds, T, ...]
    step = np.asarray(rows.decisions.obs[..., 0, 1])
    np.testing.assert_array_equal(step[:, 0], [[0, 1, 2, 0, 1], [1, 2, 0, 1, 2], [2, 0, 1, 2, 0]])
    assert (rows.carry0[0] == 0).all() and (rows.carry0[1:] != 0).any(-1).all()
