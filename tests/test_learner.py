"""One learner for all methods: Q-learning, teacher, student, and an on-policy method that is defined here, outside the package."""

import dataclasses
from functools import cache
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import gated

from limbeck.envs import probe
from limbeck.errors import BadSetting
from limbeck.evaluate import evaluator
from limbeck.learn import MAX_ITERATIONS, Learner
from limbeck.losses import masked_mean
from limbeck.methods import bases, ptde
from limbeck.methods.q_learning import QSettings
from limbeck.replay import Latest
from limbeck.train import Plan, train
from limbeck.types import LOCAL, Algorithm, Policy, Source

ENV = probe.Lever(length=2)
SMALL = {
    "hidden": 8,
    "embed": 4,
    "hyper": 8,
    "segment": 4,
    "batch": 8,
    "buffer": 32,
    "target_every": 3,
    "eps_steps": 100,
    "updates": 1,
}


@cache
def algorithm(name):
    if name in bases.BASES:
        return bases.build(ENV.spec, QSettings(mixer=name, **SMALL))
    if name in ptde.PERSONALISERS:
        return ptde.teacher(ENV.spec, ptde.TeacherSettings(personaliser=name, latent=6, **SMALL))
    teacher = algorithm("gip").init(jax.random.key(9))
    settings = ptde.StudentSettings(updates=6, batch=8, rows=96, segment=4)
    made = ptde.student(ENV.spec, teacher, settings)
    store = dataclasses.replace(made.source.store, holdout_batch=8)
    # One update per iteration, so that a stretch can end after any of them.
    return dataclasses.replace(made, source=dataclasses.replace(made.source, store=store, updates=1))


@cache
def learner(name, devices):
    return Learner(ENV, algorithm(name), worlds=4, devices=devices)


def go(some, cuts):
    """The state after `cuts` iterations each, from the same beginning; stretches also end where the plan says so."""
    state = some.init(jax.random.key(0))
    reports = []
    for n in cuts:
        state, report = some.advance(state, n, some.phase(int(state.steps)))
        reports.append(report)
    return state, reports


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


# Two iterations fill the student's data set (96 rows are 32 steps of 3 agents); they must be a stretch of their own.
CUTS = {"student": ([2, 6], [1, 1, *[1] * 6], [2, 2, 4])}
OTHERS = ([6], [1] * 6, [2, 4])
CASES = [("vdn", 1), ("qmix", 1), ("qmix", 2), ("iql", 1), ("gip", 2), ("giu", 1), ("student", 1), ("student", 2)]


@pytest.mark.parametrize(("name", "devices"), gated(CASES, ("gip", 2), ("student", 2)))
def test_every_method_goes_through_the_same_learner_however_the_run_is_cut(name, devices):
    some = learner(name, devices)
    whole, single, uneven = (go(some, cuts) for cuts in CUTS.get(name, OTHERS))
    assert int(whole[0].updates) == 6
    last = whole[1][-1]
    assert {"loss", "gradient_norm"} < set(last.metrics)
    for name_, values in last.metrics.items():
        assert np.isfinite(values).all(), name_
    assert (last.metrics["gradient_norm"] > 0).all()
    assert_same(whole[0], single[0])
    assert_same(whole[0], uneven[0])
    assert some.validate(whole[0]).keys() == ({"validation_loss", "validation_unexplained"} if name == "student" else set())


def test_two_devices_hold_half_of_the_worlds_and_of_the_buffer_each_and_agree_on_the_parameters():
    state, _ = go(learner("qmix", 2), [6])
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(state)} == {2}
    for leaf in jax.tree.leaves(state.params):
        a, b = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        assert a.tobytes() == b.tobytes()
    worlds = state.buffer.data.reward
    assert worlds.shape[:2] == (8, 4) and {shard.data.shape[1] for shard in worlds.addressable_shards} == {2}
    assert worlds.shape[0] * worlds.shape[1] == SMALL["buffer"], "the capacity is that of all devices together"
    rows = np.asarray(worlds[:6]).reshape(6, 4, -1)
    assert len(np.unique(rows.transpose(1, 0, 2).reshape(4, -1), axis=0)) == 4, "no two worlds are the same"


def test_another_seed_is_another_run():
    some = learner("qmix", 1)
    one, two = some.init(jax.random.key(0)), some.init(jax.random.key(1))
    assert not np.array_equal(one.params.agent.out.weight, two.params.agent.out.weight)


def test_nothing_is_learned_before_there_is_enough_to_learn_from():
    late = dataclasses.replace(algorithm("vdn"), source=dataclasses.replace(algorithm("vdn").source, learn_after=33))
    some = Learner(ENV, late, worlds=4, devices=1)
    assert [some.phase(steps).learn for steps in (0, 16, 32, 33, 48)] == [False, False, False, True, True]
    assert Plan.of(some, 100) == Plan(7, (3,)), "16 steps an iteration; learning begins with the fourth"
    state, report = some.advance(some.init(jax.random.key(0)), 2, some.phase(0))
    assert int(state.steps) == 32 and int(state.updates) == 0 and report.metrics == {}


def test_a_student_first_only_collects_then_only_learns():
    some = learner("student", 1)
    assert Plan.of(some, None) == Plan(2 + 6, (2,))
    first, last = some.phase(0), some.phase(32)
    assert (first.collect, first.learn, last.collect, last.learn) == (True, False, False, True)
    state, _ = go(some, [2, 6])
    assert int(state.steps) == 32 and int(state.updates) == 6


@pytest.mark.parametrize(
    ("worlds", "devices", "says"),
    [(3, 2, "3 worlds cannot be split evenly over 2"), (0, 1, "0 worlds"), (64, 64, "64 devices were asked for, but there are 2")],
)
def test_sizes_that_do_not_fit_are_refused(worlds, devices, says):
    with pytest.raises(BadSetting, match=says):
        Learner(ENV, algorithm("vdn"), worlds, devices)


def test_stretches_have_a_longest_length():
    with pytest.raises(ValueError, match=str(MAX_ITERATIONS)):
        learner("vdn", 1).advance(None, MAX_ITERATIONS + 1, None)


@pytest.mark.parametrize(("count", "times"), [(3, [16 * 2, 16 * 5, 16 * 7]), (1, [112]), (99, [16 * i for i in range(1, 8)])])
def test_evaluations_are_evenly_spaced_and_as_many_as_asked_for(count, times):
    trained = train(ENV, algorithm("vdn"), steps=100, worlds=4, devices=1, evaluations=count, evaluate=lambda params: {"judged": 1})
    assert [row["steps"] for row in trained.rows if "judged" in row] == times


def test_stats_of_episodes_are_sums_over_all_devices():
    _, (report,) = go(learner("qmix", 2), [6])
    # 4 worlds, 24 steps each, episodes of 2 steps.
    assert report.episodes.episodes.sum() == 4 * 24 / 2
    mean = report.episodes.return_sum.sum() / 48
    assert 0 < mean < ENV.optimum


# -- on-policy, from outside -----------------------------------------------------------------------------------------------


class ActorCritic(NamedTuple):
    actor: eqx.nn.Linear
    critic: eqx.nn.Linear


def actor_critic(spec, lr=0.05, clip=0.2, gamma=0.9):
    """Clipped policy gradient with a critic of the state: `target` are the parameters that collected."""

    def init(key):
        one, two = jax.random.split(key)
        return ActorCritic(eqx.nn.Linear(spec.obs_dim, spec.n_actions, key=one), eqx.nn.Linear(spec.state_dim, 1, key=two))

    def apply(layer, x):
        y = x @ layer.weight.T
        return y + jnp.broadcast_to(layer.bias, y.shape)

    def logits(params, decision):
        return jnp.where(decision.avail_actions, apply(params.actor, decision.obs), -1e9)

    def act(params, carry, decision, key, explore):
        sampled = jax.random.categorical(key, logits(params, decision))
        return jnp.where(explore > 0, sampled, logits(params, decision).argmax(-1)), carry

    def loss(params, target, segment, key):
        seen = jax.tree.map(lambda x: x[:-1], segment.decisions)

        def log_prob(params):
            every = jax.nn.log_softmax(logits(params, seen))
            return jnp.take_along_axis(every, segment.action[..., None], -1)[..., 0].sum(-1)

        value = apply(params.critic, segment.decisions.state)[..., 0]
        returns = segment.reward + gamma * (1 - segment.terminated) * jax.lax.stop_gradient(value[1:])
        advantage = returns - value[:-1]
        ratio = jnp.exp(log_prob(params) - jax.lax.stop_gradient(log_prob(target)))
        weight = jax.lax.stop_gradient(advantage)
        gain = jnp.minimum(ratio * weight, jnp.clip(ratio, 1 - clip, 1 + clip) * weight)
        total = masked_mean(0.5 * advantage**2 - gain, segment.mask)
        return total, {"ratio_at_first": ratio.mean()}

    policy = Policy(act, LOCAL, lambda params: params.actor, lambda worlds: ())
    return Algorithm(
        init=init,
        init_carry=lambda worlds: (),
        act=act,
        explore=lambda steps: jnp.float32(1.0),
        loss=loss,
        source=Source(Latest(), collect=4, updates=3),
        optimiser=optax.adam(lr),
        policies={"actor": policy},
        after_collect=lambda params, target, segment, steps: params,
    )


@pytest.mark.parametrize("devices", gated([1, 2], 2))
def test_an_on_policy_method_from_outside_learns_through_the_same_learner(devices):
    env = probe.Matrix()
    trained = train(env, actor_critic(env.spec), steps=64 * 4 * 100, worlds=64, devices=devices)
    played = evaluator(env, trained.algorithm.policies["actor"], episodes=8, worlds=8)(trained.params, jax.random.key(1))
    assert (played.returns == np.float32(env.optimum)).all()
    assert trained.rows[-1]["train_return"] > 0.9 * env.optimum, "the sampling policy, too, has become nearly certain"


def test_on_policy_the_target_are_the_parameters_that_collected():
    env = probe.Matrix()
    some = Learner(env, actor_critic(env.spec), worlds=8, devices=1)
    state = some.init(jax.random.key(0))
    before = jax.tree.map(np.asarray, state.params)
    state, _ = some.advance(state, 1, some.phase(0))
    assert_same(state.target, before)
    assert not np.array_equal(state.params.actor.weight, before.actor.weight), "three updates later"
    between = jax.tree.map(np.asarray, state.params)
    state, _ = some.advance(state, 1, some.phase(32))
    assert_same(state.target, between)
    # What is learned from is what was collected last, all of it.
    assert state.buffer.reward.shape == (4, 8)
