"""MAPPO and IPPO: what they learn from, by hand; who counts; and that they learn games whose best return is known."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated
from test_learner import assert_same, go
from test_methods import played

from limbeck.envs import probe
from limbeck.envs.base import AutoReset
from limbeck.errors import BadSetting, NotOffered, UnknownName
from limbeck.learn import Learner
from limbeck.methods import mappo, ptde
from limbeck.methods.mappo import MAPPOSettings, advantages, ppo_loss, prepare
from limbeck.nets.agents import RecurrentAgent
from limbeck.nets.critics import ValueNorm
from limbeck.nets.softmax import draw
from limbeck.nets.teams import Team, one_each
from limbeck.nets.unroll import decide, unroll
from limbeck.rollout import collect, start
from limbeck.train import train
from limbeck.types import PRIVILEGED

SMALL = {"hidden": 8, "segment": 7, "chunk": 3, "epochs": 2, "minibatches": 3, "gamma": 0.5, "gae_lambda": 0.5}
TIMEOUT = probe.Timeout(length=5, casualty=2)


measure = jax.jit(ppo_loss, static_argnums=2)


@cache
def collected(critic="state", shared=True, env=TIMEOUT):
    """(parameters, settings, 7 steps of three worlds from the middle of their episodes, the same in rows)."""
    settings = MAPPOSettings(critic=critic, shared=shared, out_gain=1.0, **SMALL)
    algorithm, batch = mappo.build(env.spec, settings), AutoReset(env)

    @jax.jit
    def run(key):
        params = algorithm.init(key)
        worlds = start(batch, algorithm.init_carry(3), jax.random.split(key, 3))
        for length in (3, 7):
            worlds, segment, _ = collect(batch, algorithm.act, params, worlds, key, jnp.float32(1), length)
        return params, segment, prepare(params, segment, settings)

    params, segment, rows = run(jax.random.key(0))
    return params, settings, segment, rows


@pytest.mark.parametrize(("critic", "shared"), gated([("state", True), ("local", True), ("local", False)], ("state", True)))
def test_chunks_say_again_what_was_said_while_collecting(critic, shared):
    params, settings, segment, rows = collected(critic, shared)
    assert rows.mask.shape == (9, 3) and rows.decisions.obs.shape[:3] == (9, 3, 2), "7 transitions are three chunks of 3"
    _, metrics = measure(params, rows, settings)
    assert metrics["clipped"] == 0 and abs(metrics["kl"]) < 1e-6, "the recurrent state before each chunk is the right one"
    in_time = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows.decisions)
    again = jax.jit(unroll)(params.critic, rows.carry.critic, in_time, jax.random.key(0)).q[..., 0]
    there = np.asarray(rows.mask) > 0
    np.testing.assert_allclose(np.swapaxes(again, 0, 1)[there], rows.value[there], atol=1e-6)
    assert rows.value.shape[-1] == (2 if critic == "local" else 1)
    # Rows are chunk after chunk of world 0, 1, 2; what fills up the last ones counts nothing.
    np.testing.assert_array_equal(rows.mask[:3].T, segment.mask[:3])
    np.testing.assert_array_equal(rows.mask[6:, 1:], 0)
    np.testing.assert_array_equal(rows.action[3:6, 0], segment.action[3])


def test_truncation_is_no_termination_and_what_follows_it_is_not_learned_from():
    _, settings, segment, rows = collected()
    np.testing.assert_array_equal(segment.mask[:, 0], [1, 0, 1, 1, 1, 1, 0])  # three steps of five were behind it
    value = jnp.broadcast_to(jnp.arange(8.0)[:, None, None], (8, 3, 1))
    _, returns = advantages(segment, value, settings)
    # The reward is 1, the value of decision t is t. gamma = lambda = 0.5.
    # Before each truncated transition: G = 1 + v / 2, with v the value of the episode's last decision.
    # G_5 = 1 + 6 / 2 = 4;  G_4 = 1 + (5 + 4) / 4;  G_3 = 1 + (4 + 3.25) / 4;  G_2 = 1 + (3 + 2.8125) / 4
    np.testing.assert_allclose(returns[[0, 2, 3, 4, 5], 0, 0], [1.5, 2.453125, 2.8125, 3.25, 4])
    params = collected()[0]
    masked = rows._replace(returns=jnp.where(rows.mask[..., None] > 0, rows.returns, 1e6))
    masked = masked._replace(advantage=jnp.where(rows.mask[..., None] > 0, rows.advantage, 1e6))
    assert measure(params, masked, settings)[0] == measure(params, rows, settings)[0]


@pytest.mark.parametrize("critic", ["state", "local"])
def test_the_dead_do_not_count_for_the_policy_but_a_local_critic_learns_what_death_costs(critic):
    params, settings, _, rows = collected(critic)
    dead = ~rows.decisions.alive & (rows.mask[..., None] > 0)
    living = rows.decisions.alive & (rows.mask[..., None] > 0)
    assert dead.any() and living.any()
    mean, deviation = rows.advantage[living].mean(), rows.advantage[living].std()
    assert abs(mean) < 0.2 and abs(deviation - 1) < 0.2, "standardised over the living (the rows' filling apart)"

    def of(rows):
        return measure(params, rows, settings)[1]

    before, after = of(rows), of(rows._replace(advantage=jnp.where(dead, 1e3, rows.advantage), log_p=rows.log_p - 5.0 * dead))
    assert before["policy_gain"] == after["policy_gain"] and before["entropy"] == after["entropy"]
    if critic == "local":
        worse = of(rows._replace(returns=jnp.where(dead, -9.0, rows.returns)))
        assert worse["value_loss"] > before["value_loss"] + 1e-3


def test_the_policy_loss_has_the_gradient_of_the_advantage_weighted_log_probability():
    params, _, _, rows = collected()
    plain = MAPPOSettings(**(SMALL | {"entropy_weight": 0.0}), out_gain=1.0)

    def by_hand(agent):
        seen = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows.decisions)
        log_p = jax.nn.log_softmax(jnp.where(seen.avail_actions, unroll(agent, rows.carry.agent, seen, jax.random.key(0)).q, -1e9))
        taken = jnp.take_along_axis(jnp.swapaxes(log_p, 0, 1), rows.action[..., None], -1)[..., 0]
        counts = rows.decisions.alive * rows.mask[..., None]
        return -(taken * rows.advantage * counts).sum() / counts.sum()

    found = jax.jit(jax.grad(lambda p: ppo_loss(p, rows, plain)[0]))(params).agent
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(jax.jit(jax.grad(by_hand))(params.agent)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# -- the scale of values ---------------------------------------------------------------------------------------------------


def test_the_scale_of_values_by_hand():
    fresh = ValueNorm.fresh()
    assert [float(x) for x in fresh.moments()] == [0, 1]
    one = fresh.after(jnp.array([2.0, 6.0, 99.0]), jnp.array([1.0, 1.0, 0.0]), 0.9)
    assert one.moments()[0] == pytest.approx(4) and one.moments()[1] == pytest.approx(2, rel=1e-5), "no trace of the zeros"
    two = one.after(jnp.array([10.0]), jnp.array([1.0]), 0.9)
    # weights 0.09 and 0.1:  mean (0.9 * 4 + 10) / 1.9,  square (0.9 * 20 + 100) / 1.9
    mean = 13.6 / 1.9
    assert two.moments()[0] == pytest.approx(mean)
    assert two.moments()[1] == pytest.approx(np.sqrt(118 / 1.9 - mean**2), rel=1e-5)
    np.testing.assert_allclose(two.restore(two.shrink(jnp.array([3.0, -4.0]))), [3, -4], rtol=1e-5)
    alike = fresh.after(jnp.array([5.0, 5.0]), jnp.ones(2), 0.9)
    assert alike.moments()[1] == pytest.approx(0.1), "values that are all alike are not blown up"


def test_the_scale_moves_by_its_gradient_and_by_nothing_else():
    params, settings, _, rows = collected()
    moved = jax.jit(jax.grad(lambda p: ppo_loss(p, rows, settings)[0]))(params).norm
    after = params.norm.after(rows.returns, rows.mask[..., None], settings.value_beta)
    for step, old, new in zip(moved, params.norm, after, strict=True):
        np.testing.assert_allclose(old - step, new, rtol=1e-5)


# -- acting ----------------------------------------------------------------------------------------------------------------


def test_an_action_is_drawn_with_its_probability_or_is_the_most_probable_one(key):
    logits = jnp.broadcast_to(jnp.log(jnp.array([[0.2, 0.3, 0.5]])), (4000, 1, 3))
    avail = jnp.broadcast_to(jnp.array([[True, True, False]]), logits.shape)
    drawn = np.asarray(draw(logits, avail, key, jnp.float32(1)))
    assert set(drawn.ravel()) == {0, 1} and abs((drawn == 0).mean() - 0.4) < 0.03
    assert (draw(logits, avail, key, jnp.float32(0)) == 1).all()


def test_agents_of_a_team_are_the_networks_in_their_places():
    spec = probe.Switch().spec
    narrow, wide = RecurrentAgent(spec, 4, jax.random.key(1)), RecurrentAgent(spec, 6, jax.random.key(2))
    team = Team((wide, narrow), ((1,), (0,)))
    decision = jax.tree.map(lambda x: x[0], collected(env=probe.Switch())[2].decisions)
    hidden = jax.random.normal(jax.random.key(3), (3, 2, 6)).at[:, 0, 4:].set(0)
    ask = jax.jit(decide)
    found, after = ask(team, hidden, decision, jax.random.key(0))
    for agent, i in ((narrow, 0), (wide, 1)):
        alone, h = ask(agent, hidden[..., : agent.carry_dim], decision, jax.random.key(0))
        np.testing.assert_allclose(found[:, i], alone[:, i], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after[:, i, : agent.carry_dim], h[:, i], rtol=1e-5, atol=1e-6)
    pair = one_each((narrow, narrow))
    twice, alone = (ask(agent, hidden[..., :4], decision, jax.random.key(0))[0] for agent in (pair, narrow))
    np.testing.assert_allclose(twice, alone, atol=1e-6)


# -- learning --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("devices", "shared"), gated([(1, False), (2, True)], (2, True)))
def test_a_run_is_the_same_however_it_is_cut(devices, shared):
    settings = MAPPOSettings(shared=shared, **SMALL)
    learner = Learner(TIMEOUT, mappo.build(TIMEOUT.spec, settings), worlds=4, devices=devices)
    whole, cut = go(learner, [3]), go(learner, [1, 2])
    assert int(whole[0].updates) == 3 * 2 * 3
    assert_same(whole[0], cut[0])
    assert all(np.isfinite(values).all() for values in whole[1][-1].metrics.values())
    for leaf in jax.tree.leaves(whole[0].params):
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        assert all(first.tobytes() == other.tobytes() for other in others), "devices agree, on the scale of values too"


def test_beyond_the_time_limit_the_reward_goes_on():
    """1 a step for ever is worth 1 / (1 - gamma) = 2 at every decision; taken for a termination, 1 at the last."""
    settings = MAPPOSettings(**(SMALL | {"chunk": 7, "critic_lr": 3e-2, "epochs": 4, "minibatches": 1}))
    learner = Learner(TIMEOUT, mappo.build(TIMEOUT.spec, settings), worlds=4, devices=1)
    state, _ = go(learner, [100])
    rows, params = state.buffer, state.params
    value = np.asarray(params.norm.restore(rows.value))[np.asarray(rows.mask) > 0]
    np.testing.assert_allclose(value, 2.0, atol=0.1)


LEARN = {"hidden": 16, "segment": 16, "chunk": 8, "lr": 3e-3, "critic_lr": 3e-3, "gamma": 0.9}


@pytest.mark.slow
@pytest.mark.parametrize("critic", gated(["state", "local"]))
def test_a_light_is_remembered(critic):
    env = probe.Switch(delay=2)
    trained = train(env, mappo.build(env.spec, critic=critic, **LEARN), steps=60_000, worlds=32, devices=1)
    assert played(env, trained) > 0.98


LEVER = probe.Lever(length=2)


@cache
def teacher(personaliser):
    algorithm = ptde.teacher_on_mappo(LEVER.spec, personaliser=personaliser, latent=16, **LEARN)
    return train(LEVER, algorithm, steps=120_000, worlds=32, devices=1)


@pytest.mark.long
def test_personalised_actors_learn_what_no_local_team_can():
    assert played(LEVER, teacher("gip")) > 0.95 * LEVER.optimum


@pytest.mark.slow
@pytest.mark.long
def test_a_student_is_made_of_a_teacher_on_mappo():
    settings = ptde.StudentSettings(updates=300, batch=256, rows=4_000, segment=32)
    trained = train(LEVER, ptde.student(LEVER.spec, teacher("gip").params, settings), worlds=16, devices=1)
    assert played(LEVER, trained, "teacher") > 0.95 * LEVER.optimum
    assert played(LEVER, trained) > LEVER.random_return


def test_a_personalised_actor_says_the_same_again():
    algorithm = ptde.teacher_on_mappo(LEVER.spec, latent=4, **SMALL)
    learner = Learner(LEVER, algorithm, worlds=4, devices=1)
    state, _ = go(learner, [1])
    rows = state.buffer
    before = jax.jit(algorithm.init)(jax.random.split(jax.random.key(0), 3)[0])
    assert abs(measure(before, rows, MAPPOSettings(**SMALL))[1]["kl"]) < 1e-6
    assert algorithm.policies["greedy"].view == PRIVILEGED
    with pytest.raises(BadSetting, match="share their parameters"):
        ptde.teacher_on_mappo(LEVER.spec, shared=False)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UnknownName, match="unknown critic 'global'"):
        mappo.build(TIMEOUT.spec, critic="global")
    blind = TIMEOUT.spec.__class__(**{**TIMEOUT.spec.__dict__, "state_dim": 0})
    with pytest.raises(NotOffered, match="a local critic fits: ippo"):
        mappo.build(blind)
    mappo.build(blind, critic="local")
    with pytest.raises(BadSetting, match="make no 9 minibatches"):
        Learner(TIMEOUT, mappo.build(TIMEOUT.spec, **(SMALL | {"minibatches": 9, "chunk": 7})), worlds=2, devices=1).template()
