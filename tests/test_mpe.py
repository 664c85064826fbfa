"""Particle worlds: rules by hand, every transition of recorded `mpe2` episodes, and that methods go through them."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

from limbeck.envs import registry
from limbeck.envs.mpe.particles import contact_force, drift
from limbeck.envs.mpe.spread import SimpleSpread, SpreadState, others_of
from limbeck.envs.mpe.talk import SimpleReference, SimpleSpeakerListener, TalkState
from limbeck.errors import BadSetting, NotOffered, UnknownName
from limbeck.learn import Learner, Phase
from limbeck.methods import METHODS, bases, mappo

STAY, LEFT, RIGHT, DOWN, UP = range(5)
NAMES = ("mpe/simple_spread", "mpe/simple_reference", "mpe/simple_speaker_listener")
KEY = jax.random.key(0)


see = jax.jit(lambda env, state: env.observe(state), static_argnums=0)
step = jax.jit(lambda env, state, action: env.step(state, action, KEY), static_argnums=0)
reward_of = jax.jit(SimpleSpread.reward, static_argnums=0)
contact = jax.jit(contact_force)


def close(found, wanted):
    np.testing.assert_allclose(np.asarray(found), wanted, atol=1e-5)


# -- what mpe2 does --------------------------------------------------------------------------------------------------------

# Recorded by reproduce/mpe_reference.py.
# Rounding errors grow where agents push each other; step by step they stay below 1e-5 (its option --check).
TOLERANCE = 1e-3
RECORDED = np.load(Path(__file__).parent / "data" / "mpe_reference.npz")
CASES = {
    "spread": SimpleSpread(),
    "spread_5": SimpleSpread(agents=5, local_ratio=0.8, episode_limit=15),
    "reference": SimpleReference(),
    "speaker_listener": SimpleSpeakerListener(),
}


def start_of(env, place, landmarks, goal):
    velocity = jnp.zeros_like(place)
    if isinstance(env, SimpleSpread):
        return SpreadState(jnp.int32(0), place, velocity, landmarks)
    return TalkState(jnp.int32(0), place, velocity, landmarks, goal, jnp.full_like(goal, -1))


def replay(env, place, landmarks, goal, action):
    """A whole episode with given actions: observations [T + 1], outcomes [T]."""

    def go_on(state, action):
        after, outcome = env.step(state, action, KEY)
        return after, (env.observe(after), outcome)

    start = start_of(env, place, landmarks, goal)
    _, (seen, outcome) = jax.lax.scan(go_on, start, action)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), env.observe(start), seen), outcome


@pytest.mark.parametrize("name", CASES)
def test_every_step_of_recorded_episodes_is_that_of_mpe2(name):
    env = CASES[name]
    kept = {key: RECORDED[f"{name}.{key}"] for key in ("place", "landmarks", "goal", "action", "reward", "digest", "state")}
    given = [jnp.asarray(kept[key]) for key in ("place", "landmarks")]
    given += [jnp.asarray(kept[key], jnp.int32) for key in ("goal", "action")]
    seen, outcome = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda *each: replay(env, *each)))(*given))
    episodes, limit = kept["reward"].shape
    assert limit == env.spec.episode_limit and seen.state.shape == (episodes, limit + 1, env.spec.state_dim)
    np.testing.assert_allclose(outcome.reward, kept["reward"], atol=TOLERANCE)
    digest = seen.state.astype(float) @ np.cos(np.arange(env.spec.state_dim))
    np.testing.assert_allclose(digest, kept["digest"], atol=TOLERANCE)
    np.testing.assert_allclose(seen.state[: len(kept["state"])], kept["state"], atol=TOLERANCE)
    assert (outcome.truncated == (np.arange(limit) == limit - 1)).all() and not outcome.terminated.any()
    # The state is made of the observations, each in its slot, and what fills them up is zero.
    for i, (first, last) in enumerate(env.spec.state_slots):
        assert (seen.obs[..., i, : last - first] == seen.state[..., first:last]).all()
        assert not seen.obs[..., i, last - first :].any()


def test_the_recorded_episodes_are_worth_comparing():
    """There are thousands of steps, with collisions and words among them."""
    steps = {name: RECORDED[f"{name}.reward"].size for name in CASES}
    assert sum(steps.values()) > 3000 and min(steps.values()) >= 240
    crowds = RECORDED["spread.place"][1::2]
    assert np.linalg.norm(crowds[:, 0] - crowds[:, 1], axis=-1).max() < 0.75
    heard = RECORDED["speaker_listener.state"][..., -3:]
    assert not heard[:, 0].any() and (heard[:, 1:].sum(-1) == 1).all()


# -- rules by hand ---------------------------------------------------------------------------------------------------------


def test_a_move_shows_one_step_later():
    place, velocity = drift(jnp.array([[1.0, 2.0]]), jnp.array([[0.4, -0.8]]), jnp.array([[5.0, 0.0]]))
    close(place, [[1.04, 1.92]])  # 0.1 s at the old velocity
    close(velocity, [[0.8, -0.6]])  # three quarters of it, and 0.1 s of force


def test_two_who_overlap_push_each_other_apart():
    force = contact(jnp.array([[0.0, 0.0], [0.2, 0.0], [5.0, 5.0]]), 0.3)
    close(force, [[-10, 0], [10, 0], [0, 0]])  # 100 times an overlap of 0.1
    touching = contact(jnp.array([[0.0, 0.0], [0.0, 0.3]]), 0.3)
    close(touching, [[0, -0.1 * np.log(2)], [0, 0.1 * np.log(2)]])  # softly: 100 times 0.001 ln 2
    assert not np.asarray(contact(jnp.ones((2, 2)), 0.3)).any(), "on one spot: no way to be pushed"


def spread(agents, landmarks, **settings):
    env = SimpleSpread(agents=len(agents), **settings)
    agents, landmarks = jnp.array(agents, jnp.float32), jnp.array(landmarks, jnp.float32)
    return env, SpreadState(jnp.int32(0), agents, jnp.zeros_like(agents), landmarks)


@pytest.mark.parametrize(("ratio", "reward"), [(0.0, -12.0), (1.0, -2.0), (0.5, -7.0), (0.25, -9.5)])
def test_the_team_is_paid_the_sum_of_its_agents_rewards(ratio, reward):
    # Nearest agents: 1, 1 and 2 away, so G = -4, for three agents -12. Two of them collide, which each of them is charged.
    env, state = spread([(0, 0), (0.1, 0), (3, 0)], [(0, 1), (0.1, 1), (3, 2)], local_ratio=ratio)
    close(reward_of(env, state), reward)


def test_who_just_does_not_touch_does_not_collide():
    for distance, reward in ((0.31, 0.0), (0.29, -2.0)):
        env, state = spread([(0, 0), (distance, 0)], [(0, 0), (distance, 0)], local_ratio=1.0)
        close(reward_of(env, state), reward)


def test_an_agent_of_simple_spread_sees():
    env, state = spread([(1, 2), (4, 6), (-1, 0)], [(0, 0), (1, 1), (2, 2)])
    state = state._replace(velocity=jnp.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]))
    obs = see(env, state).obs
    close(obs[0], [0.1, 0.2, 1, 2, -1, -2, 0, -1, 1, 0, 3, 4, -2, -2, 0, 0, 0, 0])
    close(obs[1], [0.3, 0.4, 4, 6, -4, -6, -3, -5, -2, -4, -3, -4, -5, -6, 0, 0, 0, 0])
    close(obs[2, 10:14], [2, 2, 5, 6])


def test_others_come_in_order():
    pairs = jnp.arange(9.0).reshape(3, 3, 1)
    assert others_of(pairs)[..., 0].tolist() == [[1, 2], [3, 5], [6, 7]]


def talk(movers, goal):
    movers, landmarks = jnp.array(movers, jnp.float32), jnp.array([(0, 0), (3, 4), (1, 1)], jnp.float32)
    goal = jnp.array(goal, jnp.int32)
    return TalkState(jnp.int32(0), movers, jnp.zeros_like(movers), landmarks, goal, jnp.full_like(goal, -1))


def test_in_simple_reference_each_wants_the_other_somewhere():
    env, state = SimpleReference(), talk([(0, 0), (3, 3)], [1, 0])
    # Agent 0 says 7 and goes right, agent 1 says 2 and goes down. Agent 1 should be at landmark 1, agent 0 at landmark 0.
    after, outcome = step(env, state, jnp.array([7 * 5 + RIGHT, 2 * 5 + DOWN]))
    close(outcome.reward, -1.0)  # they have only begun to move: 1 and 0 away
    close(after.velocity, [[0.5, 0], [0, -0.5]])
    first, second = np.asarray(see(env, after).obs)
    close(first[2:8], [0, 0, 3, 4, 1, 1])
    close(first[8:11], [0.25, 0.75, 0.25])
    close(second[8:11], [0.75, 0.25, 0.25])
    assert first[11:].argmax() == 2 and second[11:].argmax() == 7, "each hears the other"
    close(step(env, after, jnp.array([0, 0]))[1].reward, -0.05 - 1.05)


def test_the_listener_is_paid_for_the_square_of_its_distance():
    env, state = SimpleSpeakerListener(), talk([(3, 1)], [1])
    after, outcome = step(env, state, jnp.array([2, UP]))
    close(outcome.reward, -2 * 9.0)
    speaker, listener = np.asarray(see(env, after).obs)
    close(speaker, [0.15, 0.65, 0.15, 0, 0, 0, 0, 0, 0, 0, 0])
    close(listener, [0, 0.5, -3, -1, 0, 3, -2, 0, 0, 0, 1])
    assert see(env, after).avail_actions.sum(1).tolist() == [3, 5]
    assert not np.asarray(see(env, state).obs)[1, -3:].any(), "nothing has been said"


def test_episodes_start_in_the_square_and_with_every_goal():
    keys = jax.random.split(KEY, 600)
    starts = [jax.jit(jax.vmap(env.reset))(keys) for env in (SimpleSpread(), SimpleReference(), SimpleSpeakerListener())]
    for start in starts:
        for places in (np.asarray(start[1]), np.asarray(start.landmarks)):
            assert -1 <= places.min() < -0.95 and 0.95 < places.max() <= 1 and abs(places.mean()) < 0.06
        assert not np.asarray(start.velocity).any()
    pairs = np.unique(np.asarray(starts[1].goal), axis=0, return_counts=True)[1]
    assert len(pairs) == 9 and pairs.min() > 40, "any landmark for either"
    assert (np.asarray(starts[1].word) == -1).all()


# -- sizes, settings, methods ----------------------------------------------------------------------------------------------


def test_sizes_are_those_of_the_originals():
    specs = [registry.make(name).spec for name in NAMES]
    sizes = [(s.n_agents, s.n_actions, s.obs_dim, s.state_dim, s.episode_limit) for s in specs]
    assert sizes == [(3, 5, 18, 54, 25), (2, 50, 21, 42, 25), (2, 5, 11, 14, 25)]
    assert all(s.negative_returns and not s.has_win and not s.unit_scale for s in specs)
    bigger = registry.make("mpe/simple_spread", agents=5, episode_limit=50).spec
    assert (bigger.n_agents, bigger.obs_dim, bigger.state_dim, bigger.episode_limit) == (5, 30, 150, 50)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("mpe/simple_spread", {"agents": 0}, "agents is a whole number from 1, not 0"),
        ("mpe/simple_spread", {"agents": 2.5}, "agents is a whole number from 1, not 2.5"),
        ("mpe/simple_spread", {"local_ratio": 1.5}, "local_ratio is a number from 0 to 1, not 1.5"),
        ("mpe/simple_spread", {"local_ratio": float("nan")}, "local_ratio is a number from 0 to 1, not nan"),
        ("mpe/simple_spread", {"local_ratio": "half"}, "mpe/simple_spread with"),
        ("mpe/simple_reference", {"episode_limit": 0}, "episode_limit is a whole number from 1, not 0"),
        ("mpe/simple_speaker_listener", {"episode_limit": "long"}, "episode_limit is a whole number from 1, not long"),
    ],
)
def test_impossible_settings_are_one_line(name, settings, says):
    with pytest.raises(BadSetting, match=says) as caught:
        registry.make(name, **settings)
    assert "\n" not in str(caught.value)


def test_a_ratio_that_changes_nothing_is_no_setting():
    with pytest.raises(UnknownName, match="unknown setting of mpe/simple_reference 'local_ratio'"):
        registry.make("mpe/simple_reference", local_ratio=0.3)


SMALL = {"hidden": 8, "segment": 10}
ON_POLICY = {"chunk": 5, "epochs": 1, "minibatches": 2}
Q = bases.QSettings(batch=4, buffer=16, **SMALL)
LEARNERS = {
    "mpe/simple_spread": lambda spec: mappo.build(spec, **ON_POLICY, **SMALL),
    "mpe/simple_reference": lambda spec: METHODS["qmix"].build(spec, replace(Q, mixer="qmix")),
    "mpe/simple_speaker_listener": lambda spec: METHODS["vdn"].build(spec, replace(Q, mixer="vdn")),
}


@pytest.mark.parametrize("name", gated(NAMES, "mpe/simple_speaker_listener"))
def test_a_method_goes_through_a_few_updates(name):
    """The gate takes the world whose agents are least alike."""
    env = registry.make(name, episode_limit=6)
    learner = Learner(env, LEARNERS[name](env.spec), worlds=4, devices=1)
    start = learner.init(KEY)
    before = jax.tree.map(np.asarray, start.params)
    after, report = learner.advance(start, 2, Phase(collect=True, learn=True))
    assert int(after.steps) == 2 * 4 * 10 and int(after.updates) >= 2
    assert report.episodes.episodes.sum() == 4 * 3 and (report.episodes.return_sum < 0).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after.params, report)))
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after.params), strict=True))


def test_parts_of_unlike_size_are_refused_by_who_needs_them_alike():
    with pytest.raises(NotOffered, match="all of one size"):
        METHODS["qatten"].build(SimpleSpeakerListener().spec, METHODS["qatten"].settings)
