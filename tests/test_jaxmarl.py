"""JaxMARL's environments as worlds: by stand-ins that speak its interface, and by the real ones where it is installed."""

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import standin_jaxmarl

from limbeck.envs import registry
from limbeck.envs.adapters.doors import DOORS
from limbeck.envs.adapters.jaxmarl import JaxmarlSettings, JaxmarlWorld
from limbeck.envs.base import AutoReset
from limbeck.envs.check import check_env
from limbeck.errors import LimbeckError, WorldFailed

GO, TERMINATED, TRUNCATED = (False, False), (True, False), (False, True)


def world(kind="rooms", options=None, **settings):
    return JaxmarlWorld(standin_jaxmarl.make(kind, **(options or {})), f"jaxmarl:{kind}", JaxmarlSettings(**settings))


def play(env, actions):
    """Outcomes of joint actions, and what was seen before the first and after each of them."""
    key, step = jax.random.key(0), jax.jit(env.step)
    state = env.reset(key)
    outcomes, seen = [], [env.observe(state)]
    for action in actions:
        state, outcome = step(state, jnp.array(action), key)
        outcomes.append(outcome)
        seen.append(env.observe(state))
    return outcomes, seen


def ends(outcomes):
    return [(bool(each.terminated), bool(each.truncated)) for each in outcomes]


@pytest.fixture
def installed(monkeypatch):
    """The stand-in under JaxMARL's name."""
    monkeypatch.setitem(sys.modules, "jaxmarl", standin_jaxmarl)


# -- agents of different sizes ---------------------------------------------------------------------------------------------


def test_who_sees_or_can_do_less_sees_zeros_and_has_actions_that_are_never_available():
    env = world()
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit) == (2, 3, 4, 8, 4)
    assert spec.state_slots == ((0, 4), (4, 8)) and not spec.has_win
    _, (_, seen) = play(env, [(1, 2)])
    assert seen.obs.tolist() == [[1, 0, 0, 0], [1, 2, 1.5, 2.5]] and (seen.state == seen.obs.ravel()).all()
    assert seen.avail_actions.tolist() == [[True, True, False], [True, True, True]]


def test_masks_are_read():
    _, seen = play(world("doors"), [(1, 2)])
    assert seen[0].avail_actions.tolist() == [[False, True, False], [False, True, True]]
    assert seen[1].avail_actions.tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize(("rule", "paid"), [("sum", 7.0), ("mean", 3.5)])
def test_the_teams_reward_is_the_mean_or_the_sum(rule, paid):
    assert play(world(reward=rule), [(1, 2)])[0][0].reward == paid
    assert JaxmarlSettings().reward == "mean"


# -- how an episode ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "settings", "expected"),
    [
        ({"early": True}, {}, [GO, GO, GO, TRUNCATED]),  # JaxMARL itself would play a fifth step
        ({"early": False}, {}, [GO, GO, GO, TRUNCATED]),
        ({"ends": 3}, {}, [GO, GO, TERMINATED]),
        ({}, {"episode_limit": 2}, [GO, TRUNCATED]),
        ({"ends": 2}, {"episode_limit": 2}, [GO, TERMINATED]),
        ({"max_steps": None, "ends": 3}, {"episode_limit": 5}, [GO, GO, TERMINATED]),
    ],
)
def test_the_end_of_the_time_is_not_the_end_of_the_world(options, settings, expected):
    assert ends(play(world(options=options, **settings), [(0, 0)] * len(expected))[0]) == expected


def test_a_battle_is_won_lost_or_cut_and_at_the_last_moment_too():
    env = world("war")
    assert env.spec.has_win and env.spec.episode_limit == 3
    for actions, last, won in (
        ([(0, 0), (0, 0), (1, 1)], TERMINATED, True),
        ([(0, 0), (0, 0), (2, 2)], TERMINATED, False),
        ([(0, 0), (0, 0), (1, 0)], TRUNCATED, False),
        ([(1, 1)], TERMINATED, True),
    ):
        outcomes, _ = play(env, actions)
        assert ends(outcomes) == [GO] * (len(actions) - 1) + [last] and bool(outcomes[-1].info["won"]) is won


def test_who_has_fallen_is_not_alive_and_has_one_action():
    _, seen = play(world("war"), [(2, 0)])
    assert seen[0].alive.tolist() == [True, True] and seen[1].alive.tolist() == [False, True]
    assert seen[1].avail_actions.tolist() == [[True, False, False], [True, True, True]]
    _, seen = play(world("doors", {"leaves": 1}), [(0, 1)])
    assert seen[1].alive.tolist() == [False, True] and seen[1].avail_actions[0].tolist() == [False, True, False]


def test_only_our_own_reset_begins_episodes():
    env = AutoReset(world())
    running, seen = env.reset(jax.random.split(jax.random.key(0), 2))
    step, late = jax.jit(env.step), []
    for t in range(1, 6):
        running, outcome, seen = step(running, jnp.ones((2, 2), jnp.int32))
        late.append(outcome.truncated.tolist())
        assert seen.obs[:, 0, 0].tolist() == [t % 4] * 2, "after the end one sees the next episode's first moment"
    assert late == [[False] * 2] * 3 + [[True] * 2, [False] * 2]


# -- the state -------------------------------------------------------------------------------------------------------------


def test_the_world_state_is_brought_to_unit_scale():
    env = world("war")
    assert env.spec.state_slots == ((0, 7), (7, 14)) and env.spec.other_slots == ((14, 21),) and env.spec.unit_scale
    units = [[1, 0.25, 0.5, 0.5, 1, 0, 0], [1, 0.5, 0.25, 0.5, 0, 1, 0], [1, 1, 1, 0, 0, 0, 1]]
    teams_and_kinds = [0, 0, 1, 0, 0.5, 1]
    _, seen = play(env, [(2, 0)])
    assert np.allclose(seen[0].state, np.append(np.ravel(units), teams_and_kinds))
    assert not seen[1].state[:7].any() and np.allclose(seen[1].state[7:], seen[0].state[7:]), "the fallen are zeros"
    plain = world("war", state="observations")
    assert plain.spec.state_dim == 4 and plain.observe(plain.reset(jax.random.key(0))).state.tolist() == [0, 0, 1, 1]


def test_the_contract_is_kept(installed, key):
    env = registry.make("jaxmarl:war", options={"max_steps": 2}, negative_returns=True)
    assert (env.spec.name, env.spec.episode_limit, env.spec.negative_returns) == ("jaxmarl:war", 2, True)
    check_env(env, key, worlds=2)


# -- what is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("", {}, "'jaxmarl:' is no world; its name must be jaxmarl:NAME"),
        ("roms", {}, "unknown environment of JaxMARL 'roms'; did you mean 'rooms'"),
        ("steering", {}, "the actions of scout are a Box space; limbeck plays with Discrete ones alone"),
        ("SMAX", {}, "jaxmarl:SMAX: both armies are agents, which makes no team; HeuristicEnemySMAX has an opponent"),
        ("rooms", {"options": {"speed": 3}}, r"jaxmarl:rooms cannot be made with the options {'speed': 3}: .*speed"),
        ("rooms", {"options": {"max_steps": None}}, "does not say after how many steps it stops; set episode_limit"),
        ("rooms", {"episode_limit": 9}, "episode_limit is 9, but jaxmarl:rooms stops after 4 steps by itself"),
        ("rooms", {"reward": "max"}, "reward is 'max'; it must be one of sum, mean"),
        ("rooms", {"options": "speed"}, "options is 'speed'; it must be a table"),
        ("rooms", {"timeout": 3}, "unknown setting of jaxmarl:rooms 'timeout'"),
    ],
)
def test_what_goes_wrong_is_one_line(name, settings, says, installed):
    with pytest.raises(LimbeckError, match=says) as caught:
        registry.make(f"jaxmarl:{name}", **settings)
    assert "\n" not in str(caught.value)


def test_scenarios_belong_to_battles():
    with pytest.raises(LimbeckError, match="jaxmarl:rooms has no scenarios"):
        world(scenario="3m")


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "jaxmarl", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WorldFailed, match=r"jaxmarl is not installed; .*pip install jaxmarl, or with limbeck\[jaxmarl\]"):
        registry.make("jaxmarl:hanabi")


# -- the real one ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def real():
    """JaxMARL adds arrays of different ranks."""
    pytest.importorskip("jaxmarl")
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "settings", "sizes", "facts"),
    [
        ("HeuristicEnemySMAX", {"scenario": "3m"}, (3, 8, 75, 72, 100), {"has_win": True}),
        ("MPE_simple_speaker_listener_v4", {}, (2, 5, 11, 22, 25), {"negative_returns": True}),
        ("hanabi", {"options": {"num_colors": 2}}, (2, 18, 310, 620, 34), {"unit_scale": True}),
        ("overcooked_v2", {"options": {"max_steps": 20}}, (2, 6, 600, 1200, 20), {}),
    ],
)
def test_a_real_one_keeps_the_contract(name, settings, sizes, facts, real, key):
    env = registry.make(f"jaxmarl:{name}", **settings)
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit) == sizes
    assert {name: getattr(spec, name) for name in facts} == facts
    check_env(env, key, worlds=2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DOORS["jaxmarl"].examples)
def test_a_real_one_has_the_sizes_that_are_listed(name, real):
    spec = registry.make(f"jaxmarl:{name}").spec
    sizes = spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit
    assert sizes == DOORS["jaxmarl"].examples[name]


@pytest.mark.filterwarnings("ignore")
def test_a_scenario_that_does_not_exist_is_said(real):
    with pytest.raises(LimbeckError, match="unknown scenario of SMAX '3n'; did you mean '3m'"):
        registry.make("jaxmarl:HeuristicEnemySMAX", scenario="3n")
