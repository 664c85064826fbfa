"""KD-MARL: relations, roles and every other term by hand; what is recorded; unlike students; who learns; learning."""

import dataclasses
import itertools
import math
from functools import cache, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_methods import played

from limbeck.cost import cost
from limbeck.distil import match_relations, match_roles
from limbeck.envs import probe
from limbeck.envs.base import AutoReset
from limbeck.errors import BadSetting, UnknownName
from limbeck.losses import angles, distances, dual_clip, inner_products, pairs_of, triples_of, window_means
from limbeck.methods import bases, kd_marl, mappo
from limbeck.methods.kd_marl import KDMARLSettings, composite, distil_loss, warm
from limbeck.nets.sight import kept_features
from limbeck.nets.students import by_rule, make_students
from limbeck.nets.unroll import unroll
from limbeck.rollout import collect, start
from limbeck.runs import RunConfig, settings_of
from limbeck.train import train
from limbeck.types import LOCAL, Decision, EnvSpec

ENV = probe.Timeout(length=5, casualty=2)
SMALL: dict[str, Any] = {
    "gamma": 0.5,
    "gae_lambda": 0.5,
    "rows": 2000,
    "batch": 8,
    "updates": 5,
    "segment": 7,
    "chunk": 4,
    "burn_in": 2,
}
UNLIKE: dict[str, Any] = {"widths": "6,5", "kinds": "gru,mlp"}


# -- relations, by hand ----------------------------------------------------------------------------------------------------

relate = jax.jit(lambda features, target, weight: match_relations(inner_products(features), inner_products(target), weight))
measured = jax.jit(lambda features, pairs: distances(inner_products(features), pairs))
bent_at = jax.jit(lambda features: angles(inner_products(features)))
TRIANGLE = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
ALL = jnp.ones(3)


def test_distances_and_angles_by_hand():
    # Sides 3, 4 and 5: their mean is 4. At agent 0 there is a right angle.
    np.testing.assert_allclose(measured(TRIANGLE, pairs_of(ALL))[np.triu_indices(3, 1)], [0.75, 1, 1.25], rtol=1e-5)
    cosines = bent_at(TRIANGLE)
    found = [cosines[0, 1, 2], cosines[1, 0, 2], cosines[2, 0, 1]]
    np.testing.assert_allclose(found, [0, 0.6, 0.8], atol=1e-5)
    assert pairs_of(ALL).sum() == 3 and triples_of(ALL).sum() == 3
    np.testing.assert_array_equal(np.argwhere(triples_of(ALL)), [[0, 1, 2], [1, 0, 2], [2, 0, 1]])


def test_errors_of_relations_by_hand():
    # On a line, at 0, 1 and 2: distances 1, 2, 1 over 4/3; angles 0 -> 1, 1 -> -1, 2 -> 1.
    line = jnp.array([[0.0], [1.0], [2.0]])
    apart, bent = relate(line, TRIANGLE, ALL)
    sides = [(0.75 - 0.75), (1.5 - 1.0), (0.75 - 1.25)]
    assert apart == pytest.approx(sum(0.5 * e**2 for e in sides) / 3, rel=1e-4)
    corners = [0.5 * (1 - 0) ** 2, (-1 - 0.6) ** 2, 0.5 * (1 - 0.8) ** 2]
    corners[1] = 1.0 * (1.6 - 0.5)  # beyond 1, Huber's loss is straight
    assert bent == pytest.approx(sum(corners) / 3, rel=1e-4)


def test_turning_moving_and_scaling_the_features_changes_nothing(key):
    keys = jax.random.split(key, 4)
    features, target = jax.random.normal(keys[0], (5, 2, 4, 6)), jax.random.normal(keys[1], (5, 2, 4, 9))
    weight = jax.random.bernoulli(keys[2], 0.8, (5, 2, 4)).astype(jnp.float32)
    turn, _ = jnp.linalg.qr(jax.random.normal(keys[3], (6, 6)))
    moved = 7.0 * features @ turn + 3.0
    np.testing.assert_allclose(relate(features, target, weight), relate(moved, target, weight), rtol=1e-3)
    assert max(relate(target[..., :6] * 0.1, target[..., :6], weight)) < 1e-6


def test_two_agents_have_a_distance_and_no_angle():
    # Three moments; the pair is 1, 2 and 3 apart for the students, always 1 for the teacher: 1/2, 1 and 3/2 against 1.
    features = jnp.array([[[0.0], [1.0]], [[0.0], [2.0]], [[0.0], [3.0]]])
    target = jnp.broadcast_to(jnp.array([[0.0, 0.0], [0.0, 1.0]]), (3, 2, 2))
    apart, bent = relate(features, target, jnp.ones((3, 2)))
    assert apart == pytest.approx((0.125 + 0 + 0.125) / 3, rel=1e-4) and bent == 0
    alone = relate(features, target, jnp.array([[1.0, 0.0]] * 3))
    assert float(alone[0]) == 0 and float(alone[1]) == 0, "nobody to stand in a relation to"


def test_the_dead_stand_in_no_relation_and_get_no_gradient(key):
    features, target = jax.random.normal(key, (6, 4, 3)), jax.random.normal(jax.random.key(1), (6, 4, 5))
    weight = jnp.ones((6, 4)).at[:, 3].set(0)

    def total(features):
        return sum(relate(features, target, weight))

    other = features.at[:, 3].set(5.0)
    np.testing.assert_allclose(total(features), total(other), rtol=1e-4)
    by_features = jax.jit(jax.grad(total))(features)
    assert jnp.abs(by_features[:, 3]).max() < 1e-6 and (jnp.abs(by_features[:, :3]).sum(-1) > 0).all()


def test_agents_in_one_place_have_finite_gradients():
    features = jnp.zeros((2, 3, 4)).at[1, 0].set(1.0)
    by_features = jax.jit(jax.grad(lambda f: sum(relate(f, jnp.ones((2, 3, 2)), jnp.ones((2, 3))))))(features)
    assert jnp.isfinite(by_features).all()


# -- roles, by hand --------------------------------------------------------------------------------------------------------


def test_means_over_an_episodes_part_of_a_window_by_hand():
    x = jnp.array([1.0, 3.0, 9.0, 5.0])[:, None, None, None]
    is_first = jnp.array([False, False, True, False])[:, None]
    means, total = window_means(x, jnp.array([1.0, 1.0, 0.0, 1.0])[:, None, None], is_first, 5)
    np.testing.assert_allclose(means[:, 0, 0, 0], [2, 5, 0, 0, 0])
    np.testing.assert_allclose(total[:, 0, 0], [2, 1, 0, 0, 0])


def of_roles(own, roles, taught, weight, is_first):
    """From the teacher's features themselves."""
    return match_roles(own, roles, window_means(taught, weight, is_first, len(own) + 1)[0], weight, is_first)


def test_the_loss_of_roles_by_hand():
    # Agent 0: means (1, 1) and (1, 0): cosine 1 / sqrt 2, three decisions; agent 1: the same direction, one decision.
    own = jnp.array([[[2.0, 0.0], [4.0, 0.0]], [[0.0, 2.0], [0.0, 9.0]], [[1.0, 1.0], [0.0, 9.0]]])[:, None]
    taught = jnp.array([[[1.0, 0.0], [1.0, 0.0]]] * 3)[:, None]
    weight = jnp.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])[:, None]
    same = jnp.stack([jnp.eye(2)] * 2)
    loss = of_roles(own, same, taught, weight, jnp.zeros((3, 1), bool))
    assert loss == pytest.approx((3 * (1 - 1 / math.sqrt(2)) + 0) / 4, rel=1e-5)
    turned = of_roles(own, same.at[1].set(jnp.array([[0.0, 1.0], [-1.0, 0.0]])), taught, weight, jnp.zeros((3, 1), bool))
    assert turned == pytest.approx((3 * (1 - 1 / math.sqrt(2)) + 1) / 4, rel=1e-5), "a quarter turn of agent 1"
    assert (jax.grad(lambda t: of_roles(own, same, t, weight, jnp.zeros((3, 1), bool)))(taught) == 0).all()


@pytest.mark.parametrize("every", [4, 1])
def test_roles_of_many_short_episodes_are_counted_like_those_of_few_long_ones(key, every):
    own, taught, roles = (jax.random.normal(key, size) for size in ((20, 2, 3, 4), (20, 2, 3, 6), (3, 4, 6)))
    weight = (jax.random.uniform(key, (20, 2, 3)) < 0.7).astype(jnp.float32)
    begins = range(0, 20, every)
    errors, total = 0.0, 0.0
    for world, agent, begin in itertools.product(range(2), range(3), begins):
        here = slice(begin, begin + every), world, agent
        count = float(weight[here].sum())
        a, b = (np.average(x[here], 0, weight[here]) if count else np.zeros(x.shape[-1]) for x in (own, taught))
        a = a @ np.asarray(roles[agent])
        errors += count * (1 - a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-8))
        total += count
    is_first = jnp.zeros((20, 2), bool).at[jnp.array(begins)].set(True)
    assert jax.jit(of_roles)(own, roles, taught, weight, is_first) == pytest.approx(errors / total, rel=1e-4)


# -- the whole, by hand ----------------------------------------------------------------------------------------------------


def one_decision():
    """Two moments of one chunk, two agents, the second dead at the second moment. Two actions of three are available."""
    avail = jnp.broadcast_to(jnp.array([True, True, False]), (2, 1, 2, 3))
    alive = jnp.array([[[True, True]], [[True, False]]])
    seen = Decision(jnp.zeros((2, 1, 2, 1)), None, avail, alive, jnp.zeros((2, 1, 2), jnp.int32), jnp.zeros((2, 1), bool))  # type: ignore[arg-type]
    odd = jnp.broadcast_to(jnp.array([0.0, math.log(3.0), 50.0]), (2, 1, 2, 3))  # a quarter, three quarters
    advantage = jnp.array([[[1.0, -1.0]], [[3.0, 99.0]]])
    action = jnp.array([[[0, 1]], [[1, 1]]])
    half = jnp.full((2, 1, 2), math.log(0.5))
    features = jnp.zeros((2, 1, 2, 2)).at[:, :, 1, 0].set(1.0).at[:, :, 0, 1].set(1.0)
    means, _ = window_means(features, alive.astype(jnp.float32), seen.is_first, 3)
    return kd_marl.Rows(seen, action, half, advantage, odd, inner_products(features), means.astype(jnp.float16), jnp.ones((2, 1)))


def test_every_term_by_hand():
    rows, weight = one_decision(), jnp.array([[[1.0, 1.0]], [[1.0, 0.0]]])
    logits = jnp.broadcast_to(jnp.array([0.0, 0.0, 80.0]), (2, 1, 2, 3)).at[0, 0, 0, 0].set(math.log(2.0))
    logits = logits.at[1, 0, 1].set(7.0 * jnp.arange(3.0))  # of the dead
    features = jnp.zeros((2, 1, 2, 1)).at[..., 0, :].set(1.0)
    roles = jnp.ones((2, 1, 2))
    weights: dict[str, Any] = {f"{name}_weight": w for name, w in WEIGHTS.items()}
    settings = KDMARLSettings(temperature=2.0, **weights, entropy_weight=0.5)
    total, found = terms(logits, features, roles, rows, weight, settings)
    # Standardised: mean 1, deviation sqrt(8/3). Ratios: (2/3) / (1/2), kept below 1.2 only where there is something to gain: A = 0
    # there; 1 for both others.
    deviation = math.sqrt(8 / 3)
    assert found["loss_adv"] == pytest.approx(-(4 / 3 * 0 + 1 * -2 + 1 * 2) / deviation / 3, abs=1e-5)
    # At temperature 2 the teacher's two are 1 : sqrt 3, the students' sqrt 2 : 1, and twice even.
    p = 1 / (1 + math.sqrt(3))
    first = math.sqrt(2) / (1 + math.sqrt(2))
    divergences = [p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)) for q in (first, 0.5, 0.5)]
    assert found["loss_kl"] == pytest.approx(4 * sum(divergences) / 3, rel=1e-4)
    assert found["loss_ce"] == pytest.approx((math.log(3) + 2 * math.log(2)) / 3, rel=1e-5), "the teacher's best: action 1"
    assert found["loss_relation"] == pytest.approx(0.0, abs=1e-6), "one pair alive: as far as the mean"
    # Agent 0: P e = (1, 1) against (0, 1), in two decisions; agent 1: e = 0, the cosine of nothing.
    assert found["loss_role"] == pytest.approx((2 * (1 - 1 / math.sqrt(2)) + 1) / 3, rel=1e-4)
    third = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert found["entropy"] == pytest.approx((third + 2 * math.log(2)) / 3, rel=1e-5)
    by_hand = sum(w * found[f"loss_{name}"] for name, w in WEIGHTS.items()) - 0.5 * found["entropy"]
    assert total == pytest.approx(float(by_hand), rel=1e-5)
    taken = terms(logits, features, roles, rows, weight, dataclasses.replace(settings, imitates="taken"))[1]
    assert taken["loss_ce"] == pytest.approx((math.log(3 / 2) + 2 * math.log(2)) / 3, rel=1e-5)


terms = jax.jit(composite, static_argnums=5)
WEIGHTS = {"adv": 2.0, "kl": 3.0, "ce": 5.0, "relation": 7.0, "role": 11.0}


def test_a_ratio_gains_nothing_beyond_its_bound():
    rows, weight = one_decision(), jnp.array([[[1.0, 1.0]], [[1.0, 0.0]]])
    logits = jnp.zeros((2, 1, 2, 3)).at[1, 0, 0, 1].set(math.log(9.0))  # 0.9 of action 1, which was worth more than the mean
    found = terms(logits, jnp.zeros((2, 1, 2, 1)), jnp.ones((2, 1, 2)), rows, weight, KDMARLSettings())[1]
    assert found["loss_adv"] == pytest.approx(-(1.2 * 2 + 1 * -2) / math.sqrt(8 / 3) / 3, abs=1e-5)


def test_what_the_teacher_regretted_once_in_a_thousand_does_not_drown_the_rest():
    ratio, advantage = jnp.log(jnp.array([2.0, 300.0, 300.0, 0.5, 0.5])), jnp.array([-1.0, -1.0, 1.0, -1.0, 1.0])
    np.testing.assert_allclose(dual_clip(ratio, advantage, 0.2, 3.0), [-2, -3, 1.2, -0.8, 0.5], rtol=1e-5)


# -- what is recorded ------------------------------------------------------------------------------------------------------


@cache
def recorded(critic="state", eps=0.5, data="offline"):
    """(algorithm, parameters, 7 steps of three worlds from the middle of their episodes, the same in rows)."""
    shape = {"hidden": 8, "critic": critic, "out_gain": 1.0}
    trained = jax.jit(mappo.build(ENV.spec, **shape).init)(jax.random.key(0))
    trained = trained._replace(norm=trained.norm.after(jnp.array([1.0, 5.0]), jnp.ones(2), 0.9))
    algorithm, batch = kd_marl.student(ENV.spec, trained, **SMALL, **UNLIKE, eps=eps, data=data), AutoReset(ENV)

    @jax.jit
    def run(key):
        params = algorithm.init(key)
        worlds = start(batch, algorithm.init_carry(3), jax.random.split(key, 3))
        for length in (3, 7):
            worlds, segment, _ = collect(batch, algorithm.act, params, worlds, key, algorithm.explore(jnp.int32(0)), length)
        return params, segment, algorithm.source.prepare(params, segment)

    params, segment, rows = run(jax.random.key(0))
    return algorithm, params, segment, rows


@pytest.mark.parametrize("critic", ["state", "local"])
def test_advantages_come_from_the_frozen_critic(critic):
    _, params, segment, rows = recorded(critic)
    read = jax.jit(unroll)(params.critic, segment.carry0.critic, segment.decisions, jax.random.key(0)).q[..., 0]
    value = np.asarray(params.norm.restore(read))
    assert np.abs(value - np.asarray(read)).min() > 0.1, "on the scale of returns"
    by_hand = np.zeros((7, 3, value.shape[-1]))
    for t in reversed(range(7)):
        delta = segment.reward[t][:, None] + 0.5 * (1 - segment.terminated[t][:, None]) * value[t + 1] - value[t]
        chain = segment.mask[t + 1][:, None] * by_hand[t + 1] if t < 6 else 0
        by_hand[t] = delta + 0.25 * (1 - segment.terminated[t][:, None]) * chain
    known = np.asarray(segment.mask) > 0
    assert rows.advantage.shape == (6, 4, 2), "7 transitions are two chunks of 4"
    found = np.swapaxes(rows.advantage.reshape(2, 3, 4, 2), 1, 2).reshape(8, 3, 2)[:7]
    np.testing.assert_allclose(found[known], np.broadcast_to(by_hand, found.shape)[known], atol=1e-4)
    np.testing.assert_array_equal(rows.mask[3:, 3], 0)
    assert rows.decisions.state is None


def test_the_ratio_is_to_what_was_played():
    _, _, segment, rows = recorded()
    p = jax.nn.softmax(jnp.where(rows.decisions.avail_actions, rows.logits, -jnp.inf))
    mixed = 0.5 * p + 0.5 * rows.decisions.avail_actions / rows.decisions.avail_actions.sum(-1, keepdims=True)
    by_hand = jnp.log(jnp.take_along_axis(mixed, rows.action[..., None], -1))[..., 0]
    np.testing.assert_allclose(rows.log_p, by_hand, atol=1e-5)
    np.testing.assert_array_equal(rows.action[3:, 0], segment.action[4])


def test_on_policy_the_students_play_and_chunks_begin_with_the_states_that_they_had():
    algorithm, params, segment, rows = recorded(data="on-policy")
    settings = KDMARLSettings(**SMALL, **UNLIKE, eps=0.5, data="on-policy")
    assert algorithm.source.collect_until is None and algorithm.source.total_updates == 5
    (own, of_teacher), of_critic = segment.carry0
    assert own.shape == (3, 2, 6) and of_teacher.shape == (3, 2, 8) and of_critic.shape == (3, 1, 8)
    assert jnp.abs(own).sum() > 0 and jnp.abs(of_teacher).sum() > 0, "from the middle of an episode"
    seen, key = jax.tree.map(lambda x: x[:7], segment.decisions), jax.random.key(0)
    logits = jax.jit(unroll)(params.students, own, seen, key).q
    p = jax.nn.softmax(jnp.where(seen.avail_actions, logits, -jnp.inf))
    mixed = 0.5 * p + 0.5 * seen.avail_actions / seen.avail_actions.sum(-1, keepdims=True)
    by_hand = np.asarray(jnp.log(jnp.take_along_axis(mixed, segment.action[..., None], -1))[..., 0])
    np.testing.assert_allclose(rows.log_p[:3], by_hand[:4].swapaxes(0, 1), atol=1e-5)
    np.testing.assert_allclose(rows.log_p[3:, :3], by_hand[4:].swapaxes(0, 1), atol=1e-5)
    taught = jax.jit(unroll)(params.teacher, of_teacher, seen, key).q
    np.testing.assert_allclose(rows.logits[3:, :3], taught[4:].swapaxes(0, 1), atol=1e-5)
    # Today's students, from the state before a chunk, say what they said while they played.
    chunks = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows.decisions)
    unrolled, known = jax.jit(unroll), rows.decisions.alive * rows.mask[..., None]
    disorder = {}
    for name, before in {"theirs": rows.carry, "none": jnp.zeros_like(rows.carry)}.items():
        again = unrolled(params.students, before, chunks, key).q.swapaxes(0, 1)
        log_p = jax.nn.log_softmax(jnp.where(rows.decisions.avail_actions, again, -1e9))
        disorder[name] = float((-(jnp.exp(log_p) * log_p).sum(-1) * known).sum() / known.sum())
        same = np.abs(again - _in_rows(logits)).max(-1) * known < 1e-5
        assert same.all() == (name == "theirs")
    found = jax.jit(partial(distil_loss, settings=settings))(params, rows)[1]
    assert found["entropy"] == pytest.approx(disorder["theirs"], abs=1e-6) != pytest.approx(disorder["none"], abs=1e-6)


@pytest.mark.parametrize("data", ["offline", "on-policy"])
def test_relations_and_roles_are_those_of_the_teachers_features(data):
    _, params, segment, rows = recorded(data=data)
    before, seen = segment.carry0.agent, jax.tree.map(lambda x: x[:7], segment.decisions)
    features = jax.jit(unroll)(params.teacher, before if data == "offline" else before.critic, seen, jax.random.key(0)).hidden
    features = np.asarray(_in_rows(features))
    centred = features - features.mean(2, keepdims=True)
    np.testing.assert_allclose(rows.relations, centred @ centred.swapaxes(2, 3), atol=1e-5)
    is_first, counts = rows.decisions.is_first, rows.decisions.alive * np.asarray(rows.mask)[..., None]
    if data == "offline":
        counts = counts * np.asarray(warm(is_first.T, SMALL["burn_in"])).T[..., None]
    window = np.cumsum(is_first, 1)
    assert rows.roles.shape == (6, 5, 2, 8) and window.max() == 1 and 0 < counts.mean() < 1
    for row, which, agent in itertools.product(range(6), range(5), range(2)):
        part = counts[row, :, agent] * (window[row] == which)
        mean = (part[:, None] * features[row, :, agent]).sum(0) / max(part.sum(), 1)
        np.testing.assert_allclose(rows.roles[row, which, agent], mean, atol=1e-3)


def _in_rows(x):
    """7 steps of 3 worlds -> chunks of 4, the second filled up with the last step."""
    x = jnp.concatenate([x, x[-1:]]).reshape(2, 4, *x.shape[1:])
    return jnp.moveaxis(x, 2, 1).reshape(6, *x.shape[1:2], *x.shape[3:])


def test_a_chunk_from_the_middle_of_an_episode_warms_up():
    first = jnp.array([[False, True, False], [False, False, False], [False, False, True], [False, False, False]])
    expected = [[False, True, False], [False, True, False], [False, True, True], [True, True, True]]
    np.testing.assert_array_equal(warm(first, 3), expected)


# -- who learns from what --------------------------------------------------------------------------------------------------


def test_what_does_not_count_changes_nothing_and_teachers_get_no_gradient():
    _, params, _, rows = recorded()
    settings = KDMARLSettings(**SMALL, **UNLIKE)
    counts = rows.decisions.alive & (rows.mask > 0)[..., None] & warm(rows.decisions.is_first.T, 2).T[..., None]
    assert counts.any() and not counts.all() and (~rows.decisions.alive).any()
    learn = jax.jit(jax.value_and_grad(lambda p, rows: distil_loss(p, rows, settings)[0]))
    loss, gradient = learn(params, rows)
    spoilt = rows._replace(
        advantage=jnp.where(counts, rows.advantage, 1e3),
        logits=jnp.where(counts[..., None], rows.logits, 9.0 * jnp.arange(3.0).reshape(1, 1, 1, 3)),
        log_p=jnp.where(counts, rows.log_p, -9.0),
    )
    assert learn(params, spoilt)[0] == pytest.approx(float(loss), rel=1e-5)
    for frozen in (gradient.teacher, gradient.critic, gradient.norm):
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(frozen))
    assert all(jnp.isfinite(leaf).all() and jnp.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(gradient.students))
    assert jnp.abs(gradient.roles).sum() > 0 and (gradient.roles[1, 5:] == 0).all(), "the narrower one has nothing there"


def test_what_is_deployed_is_the_students_alone():
    algorithm, params, _, _ = recorded()
    assert {name: policy.view for name, policy in algorithm.policies.items()} == {"student": LOCAL, "teacher": LOCAL}
    assert algorithm.main == "student"
    deployed = {id(leaf) for leaf in jax.tree.leaves(algorithm.policies["student"].agent(params))}
    assert deployed == {id(leaf) for leaf in jax.tree.leaves(params.students)}
    assert not deployed & {id(leaf) for leaf in jax.tree.leaves((params.teacher, params.critic, params.norm, params.roles))}


# -- unlike students -------------------------------------------------------------------------------------------------------

SPEC = EnvSpec("test/three", 3, 4, 10, 9, 10)


def test_features_are_dropped_by_their_numbers():
    assert kept_features("", SPEC) == (tuple(range(10)),) * 3
    assert kept_features("0,2-8", SPEC) == ((1, 9),) * 3
    assert kept_features("0-8/ /1-9", SPEC) == ((9,), tuple(range(10)), (0,))


def test_widths_by_rule():
    # 4 sqrt(128) = 45.3; 4 sqrt(48) = 27.7; in eights 48 and 24; 4 sqrt(4) = 8, at least 16; at most half the teacher's
    assert [by_rule(d, 256) for d in (128, 48, 4, 2000)] == [48, 24, 16, 128]
    assert by_rule(128, 64) == 32 and by_rule(4, 8) == 4


def test_each_its_own_or_those_alike_together(key):
    settings = KDMARLSettings(widths="8,rule,8", kinds="gru,mlp,gru", drop="0-4//0-4")
    team = make_students(SPEC, settings, 64, key)
    assert team.places == ((0,), (1,), (2,)) and [net.carry_dim for net in team.nets] == [8, 16, 8]
    assert [net.sight.dim for net in team.nets] == [5 + 4, 10 + 4, 5 + 4], "features and the last action; no name"
    shared = make_students(SPEC, dataclasses.replace(settings, share=True), 64, key)
    assert shared.places == ((0, 2), (1,)) and [net.sight.dim for net in shared.nets] == [5 + 4 + 3, 10 + 4]


@pytest.mark.parametrize("share", [False, True])
def test_the_cost_of_every_agent_by_hand(share):
    env = dataclasses.replace(SPEC, n_agents=3)
    trained = jax.eval_shape(mappo.build(env, hidden=8, shared=False).init, jax.random.key(0))
    settings = SMALL | {"widths": "8,6,8", "kinds": "gru,mlp,gru", "drop": "0-4//0-4", "share": share}
    algorithm = kd_marl.student(env, trained, **settings)
    found = cost(algorithm.policies["student"], jax.eval_shape(algorithm.init, jax.random.key(0)), env)
    x, a = (12 if share else 9), 4
    gru = (x * 8 + 8) + 3 * 8 * (8 + 8) + 3 * 8 + 8 + (8 * a + a)
    mlp = (14 * 6 + 6) + (6 * 6 + 6) + (6 * a + a)
    gru_flops, mlp_flops = 2 * (x * 8 + 3 * 8 * 16 + 8 * a), 2 * (14 * 6 + 6 * 6 + 6 * a)
    assert found.each == ((gru, gru_flops), (mlp, mlp_flops), (gru, gru_flops))
    assert found.parameters == round((2 * gru + mlp) / 3) and found.bytes == 4 * found.parameters
    assert found.flops == pytest.approx((2 * gru_flops + mlp_flops) / 3), "counted in the program as it runs"
    teacher = cost(algorithm.policies["teacher"], jax.eval_shape(algorithm.init, jax.random.key(0)), env)
    assert teacher.parameters == (17 * 8 + 8) + 3 * 8 * 16 + 3 * 8 + 8 + (8 * a + a), "not three times as much"


def test_wrong_settings_are_named():
    _, params, _, _ = recorded()
    trained = mappo.PPOParams(params.teacher, params.critic, params.norm)
    wrong: dict[str, dict[str, Any]] = {
        "widths lists 3 agents, but probe/timeout has 2": {"widths": "8,8,8"},
        "widths must be of whole numbers, not 'wide'": {"widths": "wide"},
        "widths must be positive": {"widths": "8,0"},
        "drop names feature 2, but an observation of probe/timeout has 0 to 1": {"drop": "2"},
        "burn_in is 4; it must be less than a chunk of 4": {"burn_in": 4},
        "50 rows are too few to hold some out: take at least 80": {"rows": 50},
        "eps is 2.0; it must be between 0 and 1": {"eps": 2.0},
        "needs the gamma": {"gamma": None},
        "on-policy the students took the actions themselves": {"data": "on-policy", "imitates": "taken"},
    }
    for message, changes in wrong.items():
        with pytest.raises(BadSetting, match=message):
            kd_marl.student(ENV.spec, trained, **(SMALL | changes))
    mistaken: dict[str, dict[str, Any]] = {
        "kind 'lstm'": {"kinds": "lstm"},
        "action to imitate 'worst'": {"imitates": "worst"},
        "data source 'online'": {"data": "online"},
    }
    for name, changes in mistaken.items():
        with pytest.raises(UnknownName, match=f"unknown {name}"):
            kd_marl.student(ENV.spec, trained, **(SMALL | changes))
    with pytest.raises(BadSetting, match="train one first, with `limbeck train mappo`"):
        kd_marl.student(ENV.spec, jax.eval_shape(bases.build(ENV.spec).init, jax.random.key(0)), **SMALL)


def test_a_run_takes_its_discounts_from_its_teacher():
    teacher = {"run": "somewhere", "method": "mappo", "settings": {"gamma": 0.9, "gae_lambda": 0.7}}
    found = settings_of(RunConfig("kd-marl", "probe/timeout", settings={"gae_lambda": 0.2}, teacher=teacher))
    assert (found.gamma, found.gae_lambda) == (0.9, 0.2)


# -- learning --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.long
def test_unlike_students_do_nearly_what_their_teacher_does():
    env = probe.Switch(delay=1)
    recipe: dict[str, Any] = {"hidden": 32, "segment": 16, "chunk": 8, "lr": 3e-3, "critic_lr": 3e-3, "gamma": 0.9}
    teacher = train(env, mappo.build(env.spec, **recipe), steps=30_000, worlds=32, devices=1)
    settings: dict[str, Any] = {"gamma": 0.9, "gae_lambda": 0.95, "segment": 32, "chunk": 16, "lr": 3e-3, "widths": "16,8"}
    sources: dict[str, dict[str, Any]] = {
        "offline": {"rows": 6000, "burn_in": 4, "updates": 200},
        "on-policy": {"updates": 400, "entropy_weight": 0.01},
    }
    for data, more in sources.items():
        trained = train(env, kd_marl.student(env.spec, teacher.params, data=data, **settings, **more), worlds=16, devices=1)
        best = played(env, trained, "teacher")
        assert best > 0.95 and played(env, trained) > 0.95 * best, data
        assert trained.rows[-1]["agreement" if data == "on-policy" else "validation_agreement"] > 0.95, data


@pytest.mark.long
def test_the_best_joint_action_is_learned_from_students_own_play():
    env = probe.Matrix()
    best = np.unravel_index(np.argmax(env.payoff()), (3, 3))
    trained = jax.jit(mappo.build(env.spec, hidden=8, shared=False).init)(jax.random.key(0))
    biases = [5.0 * jax.nn.one_hot(action, 3) for action in best]
    sure = eqx.tree_at(lambda params: [net.out.bias for net in params.agent.nets], trained, biases)
    settings: dict[str, Any] = {"gamma": 0.99, "gae_lambda": 0.95, "segment": 8, "chunk": 1, "burn_in": 0, "lr": 1e-2}
    students = kd_marl.student(env.spec, sure, data="on-policy", updates=80, **settings)
    found = train(env, students, worlds=16, devices=1)
    assert [int(found.rows[-1][name]) for name in ("updates", "steps")] == [80, 80 // 16 * 8 * 16]
    assert found.rows[0]["train_return"] < 0.7 * env.optimum, "at first they play anything"
    assert played(env, found, episodes=16) == env.optimum
