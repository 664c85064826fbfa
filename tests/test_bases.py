"""Ways to join agents' values: their losses by hand, what each can and cannot learn, and what a world has to offer for them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated
from reproduction import script
from test_methods import LAGGED, ONLINE, SMALL, Table, played, segment

from limbeck import runs
from limbeck.envs import probe
from limbeck.errors import BadSetting, NotOffered
from limbeck.learn import Learner
from limbeck.methods import METHODS, bases, ptde
from limbeck.methods.bases import BASES
from limbeck.methods.q_learning import PRESETS, QParams, QSettings, online_of
from limbeck.methods.qtran import qtran_loss
from limbeck.methods.wqmix import central_loss, optimistic_loss
from limbeck.nets.carried import Carried
from limbeck.nets.mixers import Sum
from limbeck.train import train

# -- weighted QMIX by hand -------------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Critic:
    """Central values in a table, summed."""

    agent: Table
    mixer: Any


def weighted(loss, online=ONLINE, central=None, lagged=LAGGED, alpha=0.25):
    central = jnp.array([[0.0, 1.0], [2.0, 3.0]]) if central is None else central
    hidden = jnp.zeros((1, 2, 1))
    # The last reward makes the last return larger than what the central network thinks of the greedy action there.
    some = segment()._replace(reward=jnp.array([[1.0], [2.0], [11.0]]), carry0=Carried(hidden, hidden))
    params = QParams(Table(online), Sum(), Critic(Table(central), Sum()))
    target = QParams(Table(jnp.nan * online), Sum(), Critic(Table(lagged), Sum()))
    settings = QSettings(gamma=0.5, td_lambda=0.5, alpha=alpha)
    return loss(params, target, some, online_of(params.agent, some, jax.random.key(0)), jax.random.key(0), settings)


# Q_tot of what was done: 6, 10, 3 (see test_methods). Greedy by Q_tot's own table: (1, 1), (1, 1), (1, 1), (0, 1): only the
# second action taken, (1, 1), is greedy. Lagged central value of the greedy actions: 20 + 30, 30 + 30, 20 + 20, 40 + 20.
# gamma = lambda = 0.5:  G_2 = 11 + 0.5 * 60 = 41;  G_1 = 2 (terminated);  G_0 = 1 + 0.5 (0.5 * 60 + 0.5 * 2) = 16.5
# errors of Q_tot: -10.5, 8, -38;   of Q^* (0 + 3, 3 + 3, 1 + 0): -13.5, 4, -40
CENTRAL = (13.5**2 + 4**2 + 40**2) / 6


def test_the_optimistic_weights_by_hand():
    loss, metrics = weighted(optimistic_loss)  # too low, too high, too low
    assert loss == pytest.approx((10.5**2 + 0.25 * 8**2 + 38**2) / 3 + CENTRAL)
    assert metrics["weight"] == pytest.approx(2.25 / 3) and metrics["central_loss"] == pytest.approx(CENTRAL)


def test_the_central_weights_by_hand():
    loss, _ = weighted(central_loss)  # 16.5 < 50; greedy; 41 > 40
    assert loss == pytest.approx((0.25 * 10.5**2 + 8**2 + 38**2) / 3 + CENTRAL)


def test_without_weighting_down_both_are_qmix_with_a_critic():
    assert weighted(optimistic_loss, alpha=1.0)[0] == weighted(central_loss, alpha=1.0)[0]


@pytest.mark.parametrize("loss", [optimistic_loss, central_loss])
def test_the_monotone_part_does_not_teach_the_central_one_nor_the_other_way_round(loss):
    by_online = jax.grad(lambda q: weighted(loss, online=q)[0])(ONLINE)
    # Q_tot's errors, weighted, times 2 / 3, at the values taken; OW and CW agree on none of the weights but the last.
    first, second = (1.0, 0.25) if loss is optimistic_loss else (0.25, 1.0)
    a, b, c = -10.5 * first * 2 / 3, 8 * second * 2 / 3, -38 * 2 / 3
    np.testing.assert_allclose(by_online, [[a + c, c], [0.0, a + 2 * b]], rtol=1e-5)
    by_central = jax.grad(lambda q: weighted(loss, central=q)[0])(jnp.array([[0.0, 1.0], [2.0, 3.0]]))
    np.testing.assert_allclose(by_central, np.array([[-13.5 - 40, -40], [0.0, -13.5 + 2 * 4]]) / 3, rtol=1e-5)
    assert (jax.grad(lambda q: weighted(loss, lagged=q)[0])(LAGGED) == 0).all()


# -- QTRAN by hand ---------------------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Line:
    """Q_jt = slope * (sum of the actions' numbers) + height, V = value."""

    slope: jax.Array
    height: jax.Array
    v: jax.Array

    def __call__(self, joint):
        return self.slope * joint.action.sum(-1, keepdims=True).astype(jnp.float32) + self.height

    def value(self, state):
        return jnp.broadcast_to(self.v, (*state.shape[:-1], 1))


def qtran(online=ONLINE, slope=10.0, height=-4.0, value=2.0):
    params = QParams(Table(online), Sum(), Line(*map(jnp.float32, (slope, height, value))))
    target = QParams(Table(LAGGED), Sum(), Line(*map(jnp.float32, (3.0, 4.0, jnp.nan))))
    settings = QSettings(gamma=0.5, td_lambda=0.0, opt_weight=2.0, nopt_weight=0.5)
    online = online_of(params.agent, segment(), jax.random.key(0))
    return qtran_loss(params, target, segment(), online, jax.random.key(0), settings)


def test_the_three_losses_of_qtran_by_hand():
    # Lagged Q_jt of the greedy actions at decisions 1 and 3, (1, 1) and (0, 1): 10 and 7.   y = 1 + 5, 2, 3 + 3.5
    # Q_jt of (0, 1), (1, 1), (1, 0): 6, 16, 6.     td: 0, 14^2, 0.5^2
    # Q' of the greedy actions: 7, 10, 4; Q_jt there 16; + V:  opt: (-7)^2, (-4)^2, (-10)^2
    # Q' of what was done: 6, 10, 3:  6 - 6 + 2 > 0, 10 - 16 + 2 = -4, 3 - 6 + 2 = -1:  nopt: 0, 16, 1
    loss, metrics = qtran()
    found = [metrics[f"loss_{name}"] for name in ("td", "opt", "nopt")]
    np.testing.assert_allclose(found, np.array([196.25, 165.0, 17.0]) / 3, rtol=1e-6)
    assert loss == pytest.approx((196.25 + 2 * 165 + 0.5 * 17) / 3)


def test_qtrans_joint_value_learns_from_rewards_alone():
    by_height, by_value = jax.grad(lambda h, v: qtran(height=h, value=v)[0], (0, 1))(-4.0, 2.0)
    assert by_height == pytest.approx(2 * (0 + 14 - 0.5) / 3), "the constraints hold Q_jt fixed"
    assert by_value == pytest.approx((2 * 2 * (-7 - 4 - 10) + 0.5 * 2 * (-4 - 1)) / 3)
    by_online = jax.grad(lambda q: qtran(online=q)[0])(ONLINE)
    # opt at (obs, action) of decisions 0, 1, 2: (0,1) (1,1) | (1,1) (1,1) | (0,1) (0,1);   nopt at 1, 2: (1,1) (1,1) | (0,1) (0,0)
    opt, nopt = 4 * np.array([-7, -4, -10]), np.array([0, -4, -1])
    expected = [[nopt[2], opt[0] + 2 * opt[2] + nopt[2]], [0, opt[0] + 2 * opt[1] + 2 * nopt[1]]]
    np.testing.assert_allclose(by_online, np.array(expected) / 3, rtol=1e-5)


# -- games ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.long
def test_the_sum_of_values_is_the_least_squares_fit_that_the_papers_report():
    found = script("matrix_games").learn("nonmonotonic", "vdn", 0, 2000)
    payoff = np.array(probe.GAMES["nonmonotonic"])
    additive = payoff.mean(0, keepdims=True) + payoff.mean(1, keepdims=True) - payoff.mean()
    assert additive[0, 0] == pytest.approx(-6.2, abs=0.05), "the number published for VDN"
    np.testing.assert_allclose(found.q_tot, additive, atol=0.8)
    assert payoff[found.greedy] == 0, "and its greedy actions miss the 8"


@pytest.mark.slow
@pytest.mark.long
def test_a_monotone_mixer_takes_a_decoy_for_the_best():
    # On `decoys` even the nearest monotone function to the uniformly weighted game does not have its maximum at the 8.
    found = script("matrix_games").learn("decoys", "qmix", 0, 3000)
    payoff = np.array(probe.GAMES["decoys"])
    assert payoff[found.greedy] == 6
    assert abs(found.q_tot[0, 0] - 8) > 8, "it believes the best joint action to be bad"


@pytest.mark.slow
@pytest.mark.parametrize("game", gated(["nonmonotonic", "decoys"], "nonmonotonic"))
@pytest.mark.parametrize("mixer", gated(["ow-qmix", "cw-qmix"]))
def test_weighted_qmix_finds_the_best_joint_action_from_uniform_play(mixer, game):
    found = script("matrix_games").learn(game, mixer, 0, 3000)
    assert found.greedy == (0, 0) and found.q_tot[0, 0] == pytest.approx(8, abs=1)


def test_qtran_represents_the_game_and_finds_its_best_joint_action_from_uniform_play():
    found = script("matrix_games").learn("nonmonotonic", "qtran", 0, 4000)
    np.testing.assert_allclose(found.q_joint, probe.GAMES["nonmonotonic"], atol=0.8)
    assert found.greedy == (0, 0)


@pytest.mark.slow
@pytest.mark.long
def test_qplex_represents_the_game_and_finds_its_best_joint_action_from_uniform_play():
    found = script("matrix_games").learn("nonmonotonic", "qplex", 0, 12_000)
    assert found.greedy == (0, 0)
    np.testing.assert_allclose(found.q_tot, probe.GAMES["nonmonotonic"], atol=1.5)


HUNT = {**SMALL, "updates": 4, "td_lambda": 0.6, "eps_steps": 30_000, "gamma": 0.99}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("mixer", ["qmix", "cw-qmix"])
def test_hunting_together_though_trying_alone_is_punished(mixer):
    env = probe.WORLDS["hunt"]()
    trained = train(env, bases.build(env.spec, QSettings(mixer=mixer, **HUNT)), steps=80_000, worlds=16, devices=1)
    found = played(env, trained)
    if mixer == "qmix":
        assert found == pytest.approx(0, abs=0.05), "relative overgeneralisation: it does not hunt at all"
    else:
        assert found > 0.7 * env.optimum


# -- what a world has to offer -----------------------------------------------------------------------------------------------


def test_a_mixer_that_finds_no_unit_slots_says_so_and_names_what_fits():
    env = probe.Lever()
    with pytest.raises(NotOffered, match=r"mixer 'qatten' needs every agent's own part of the state.*probe/lever.*fit: iql, vdn"):
        bases.build(env.spec, QSettings(mixer="qatten"))
    with pytest.raises(NotOffered, match="qatten"):
        ptde.teacher(env.spec, mixer="qatten")


@pytest.mark.parametrize("mixer", [name for name, base in BASES.items() if "state" in base.needs])
def test_a_mixer_that_finds_no_state_says_so(mixer):
    spec = dataclasses.replace(probe.Matrix().spec, name="my/blind", state_dim=0)
    with pytest.raises(
        NotOffered, match=rf"mixer '{mixer}' needs a global state, which my/blind does not offer; mixers that fit: iql, vdn$"
    ):
        bases.build(spec, QSettings(mixer=mixer))


def test_the_worlds_that_fit_are_named_before_anything_is_trained(tmp_path):
    with pytest.raises(BadSetting, match=r"worlds that fit: .*probe/switch.*smac/3s_vs_5z") as caught:
        runs.start(runs.RunConfig("ptde", "probe/lever", settings={"mixer": "qatten"}, steps=100), tmp_path / "run")
    assert "probe/lever," not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(LookupError, match="did you mean 'adam'"):
        bases.build(probe.Matrix().spec, QSettings(optimiser="adams"))


# -- recipes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", BASES)
def test_the_published_recipes_are_there_for_every_base(name, preset):
    env = probe.Switch()
    settings = METHODS[name].presets[preset]
    assert settings.mixer == name and settings.segment is None
    assert settings.td_lambda == (0.6 if preset == "pymarl2" and name != "qtran" else 0.0)
    assert (settings.optimiser, settings.lr) == (("rmsprop", 5e-4) if preset == "pymarl" else ("adam", 1e-3))
    assert bases.build(env.spec, settings).source.collect == env.spec.episode_limit


def test_rmsprop_steps_as_torchs_does():
    # v = 0.99 v + 0.01 g^2; step = lr g / (sqrt(v) + eps):  g = 2: v = 0.04: 5e-4 * 2 / (0.2 + 1e-5)
    from limbeck.methods.q_learning import OPTIMISERS

    optimiser = OPTIMISERS["rmsprop"](5e-4)
    step, _ = optimiser.update(jnp.array(2.0), optimiser.init(jnp.array(0.0)))
    assert step == pytest.approx(-5e-4 * 2 / (0.2 + 1e-5), rel=1e-5)


TINY = {"hidden": 8, "embed": 4, "hyper": 8, "central": 8, "segment": 4, "batch": 8, "buffer": 32, "updates": 1, "eps_steps": 100}


@pytest.mark.long
@pytest.mark.parametrize("mixer", BASES)
def test_a_ptde_teacher_stands_on_every_base_and_its_student_needs_none_of_it(mixer):
    env = probe.Switch()
    algorithm = ptde.teacher(env.spec, ptde.TeacherSettings(latent=6, mixer=mixer, **TINY))
    learner = Learner(env, algorithm, worlds=4, devices=2)
    state, report = learner.advance(learner.init(jax.random.key(0)), 3, learner.phase(0))
    assert all(np.isfinite(values).all() for values in report.metrics.values())
    assert (report.metrics["gradient_norm"] > 0).all()
    student = ptde.student(env.spec, state.params, ptde.StudentSettings(updates=4, batch=8, rows=64, segment=4))
    learner = Learner(env, student, worlds=4, devices=2)
    held = [learner.init(jax.random.key(1))]
    for n in (2, 1):
        held[0], report = learner.advance(held[0], n, learner.phase(int(held[0].steps)))
    assert np.isfinite(report.metrics["loss"]).all()


@pytest.mark.parametrize("mixer", ["ow-qmix", "cw-qmix"])
def test_the_central_recurrent_state_is_the_one_it_had_while_the_agents_acted(mixer):
    from limbeck.envs.base import AutoReset
    from limbeck.nets.unroll import unroll
    from limbeck.rollout import collect, start

    env = AutoReset(probe.Timeout(length=7))
    algorithm = bases.build(env.spec, QSettings(mixer=mixer, **TINY))
    params = algorithm.init(jax.random.key(0))
    worlds = start(env, algorithm.init_carry(2), jax.random.split(jax.random.key(1), 2))
    segments = []
    for i in range(2):
        worlds, some, _ = collect(env, algorithm.act, params, worlds, jax.random.key(i), jnp.float32(0.5), 5)
        segments.append(some)
    first, second = segments
    for which, agent in (("agent", params.agent), ("critic", params.critic.agent)):
        _, hidden, _ = unroll(agent, getattr(first.carry0, which), first.decisions, jax.random.key(0))
        np.testing.assert_allclose(hidden[-2], getattr(second.carry0, which), rtol=1e-5, atol=1e-6)
        assert (jnp.abs(hidden[-2]) > 1e-3).any()
