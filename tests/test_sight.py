"""Shortened sight: against the simulator with that sight, number by number; what it costs; where there is none; what is kept."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

from limbeck import runs
from limbeck.cost import cost
from limbeck.envs import registry
from limbeck.envs.smac import SmacSettings, make
from limbeck.envs.smac.terrain import SIZE
from limbeck.errors import BadSetting, NotOffered
from limbeck.methods import kd_marl, mappo
from limbeck.nets.sight import nearer, sight_ranges
from limbeck.nets.students import make_students
from limbeck.nets.unroll import decide
from limbeck.runs import RunConfig
from limbeck.types import Decision, EnvSpec, UnitSight

WORLDS = 16
see_less = jax.jit(nearer, static_argnums=(1, 2))


def battles(env, worlds=WORLDS):
    """Moments of as many battles: everybody anywhere near the middle, some dead, some wounded, all with a last action."""
    keys = jax.random.split(jax.random.key(1), 4)
    state = env.batch().reset(jax.random.split(keys[0], worlds))
    now = state.bodies
    alive = jax.random.bernoulli(keys[1], 0.8, now.health.shape)
    near = SIZE / 2 + 5.0 * jax.random.normal(keys[2], now.pos.shape)
    actions = jax.random.randint(keys[3], state.last_action.shape, 0, env.spec.n_actions)
    return state._replace(bodies=now._replace(pos=near, health=now.health * alive), last_action=actions)


def shown(env, state):
    return np.asarray(jax.jit(env.batch().observe)(state).obs)


LESS = [("2s3z", {"obs_last_action": True}), ("MMM", {"obs_own_health": False}), ("3s_vs_5z", {"obs_all_health": False})]


@pytest.mark.parametrize(("name", "settings"), gated(LESS, LESS[0]))
def test_less_sight_is_what_the_simulator_with_less_sight_shows(name, settings):
    far, near = (make(name, SmacSettings(**settings, sight_range=reach)) for reach in (9.0, 4.0))
    state = battles(far)
    wide, by_hand = shown(far, state), shown(near, state)
    found = np.asarray(see_less(wide, far.spec.sight, 4.0))
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    np.testing.assert_array_equal(found == 0, by_hand == 0)
    units = [(wide[..., a:b] != 0).any(-1) & (found[..., a:b] == 0).all(-1) for a, b in far.spec.sight.slots]
    assert sum(map(np.sum, units)) > WORLDS and any(map(np.any, by_hand != 0)), "somebody is out of sight, somebody is in it"
    np.testing.assert_array_equal(see_less(wide, far.spec.sight, 9.0), wide)


def test_where_everybody_sees_as_far_as_its_kind_sight_is_shortened_from_there():
    env = make("MMM", SmacSettings(unit_ranges=True))
    assert env.spec.sight is not None and len(set(env.spec.sight.ranges)) > 1
    state = battles(env)
    wide, near = shown(env, state), shown(make("MMM", SmacSettings(sight_range=5.0)), state)
    found = np.asarray(see_less(wide, env.spec.sight, 5.0))
    first = [start for start, _ in env.spec.sight.slots]  # whom orders reach is told by the settings that differ
    rest = [i for i in range(4, env.spec.obs_dim) if i not in first]
    np.testing.assert_allclose(found[..., rest], near[..., rest], atol=1e-6)
    assert registry.make("smac/protoss_5_vs_5").spec.sight is None, "kinds are drawn"


# -- in a student ----------------------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {"gamma": 0.9, "gae_lambda": 0.9, "widths": "8", "chunk": 4, "burn_in": 2, "rows": 2000, "segment": 8}


def students(env, **changes):
    trained = jax.jit(mappo.build(env.spec, hidden=8).init)(jax.random.key(0))
    algorithm = kd_marl.student(env.spec, trained, **(SMALL | changes))
    return algorithm, jax.jit(algorithm.init)(jax.random.key(0))


def test_each_agent_sees_as_far_as_it_is_told():
    far = make("3m", SmacSettings())
    state = battles(far)
    wide = shown(far, state)
    (algorithm, params), (_, plain) = students(far, sight_range="3,9,5"), students(far)
    team, blind = (p.students for p in (params, plain))
    seen = Decision(jnp.asarray(wide), None, *[None] * 2, jnp.full((WORLDS, 3), -1), jnp.ones(WORLDS, bool))  # type: ignore[arg-type]
    ask = jax.jit(lambda team, obs: decide(team, jnp.zeros((WORLDS, 3, 8)), seen._replace(obs=obs), jax.random.key(0))[0])
    found = ask(team, seen.obs)
    for i, reach in enumerate((3.0, 9.0, 5.0)):
        by_hand = ask(blind, see_less(wide, far.spec.sight, reach))
        np.testing.assert_allclose(found[:, i], by_hand[:, i], atol=1e-5)
    assert (np.abs(found - ask(blind, seen.obs)) > 1e-4).any((0, 2)).tolist() == [True, False, True]
    assert cost(algorithm.policies["student"], params, far.spec).flops == 2 * ((30 + 9) * 8 + 3 * 8 * 16 + 8 * 9), "nothing saved"


def test_agents_who_see_alike_share():
    env = make("3m", SmacSettings())
    settings = kd_marl.KDMARLSettings(widths="8", sight_range="3,9,3", share=True)
    assert make_students(env.spec, settings, 64, jax.random.key(0)).places == ((0, 2), (1,))


def test_what_a_student_does_not_see_is_part_of_its_run():
    teacher = {"run": "somewhere", "method": "mappo", "settings": {"hidden": 8, "gamma": 0.9, "gae_lambda": 0.9}}
    settings = {"widths": "8", "sight_range": "4"}
    config = RunConfig("kd-marl", "smac/3m", {"obs_last_action": True}, settings, teacher=teacher)
    kept = json.loads(json.dumps(dataclasses.asdict(runs.resolve(config))))
    algorithm = runs.build(runs.from_dict(kept))
    team = jax.eval_shape(algorithm.init, jax.random.key(0)).students
    spec = runs.make_env(config).spec
    assert [net.sight.sight_range for net in team.nets] == [4.0] * 3 and team.nets[0].sight.units == spec.sight


def test_sight_that_makes_no_sense_is_named():
    spec = EnvSpec("a/world", 2, 2, 4, 0, 1, sight=UnitSight((9.0, 6.0), ((0, 4),), 1, (1, 2, 3)))
    assert sight_ranges(" ", spec) == (None, None) and sight_ranges("6, 2.5", spec) == (6.0, 2.5)
    wrong = {
        "sight_range must be of numbers, not 'far'": "far",
        "sight_range is 7; agents of a/world see 6 far": "7",
        "sight_range is 0;": "0",
        "sight_range is nan;": "nan",
        "sight_range lists 3 agents, but a/world has 2": "1,2,3",
    }
    for message, text in wrong.items():
        with pytest.raises(BadSetting, match=message):
            sight_ranges(text, spec)
    with pytest.raises(NotOffered, match=r"observations of mpe/simple_spread do not list units.*drop features by number"):
        sight_ranges("6", registry.make("mpe/simple_spread").spec)
