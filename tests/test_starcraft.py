"""The real game's door, with stand-ins that speak SMAC's interface: the same layouts, ends and masks, and who is asked to play."""

import json
import sys
import types

import jax
import numpy as np
import pytest
import standin_smac

from limbeck.cli import main
from limbeck.envs import registry
from limbeck.envs.smac import MAPS, make
from limbeck.envs.starcraft import find as finding
from limbeck.envs.starcraft.find import find
from limbeck.envs.starcraft.game import Game
from limbeck.envs.workers import Workers
from limbeck.errors import BadSetting, WorldFailed

TINY = ["--hidden", "8", "--embed", "4", "--hyper", "8", "--segment", "4", "--batch", "4", "--buffer", "32"]
QUICK = ["--worlds", "2", "--devices", "1", "--evaluations", "1", "--evaluation-episodes", "4"]


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch):
    """No matter what there is on this machine."""
    monkeypatch.delenv("LIMBECK_STARCRAFT", raising=False)
    monkeypatch.setattr(finding, "GAMES", {})


def game(kind, map_name="2m_vs_1z", **settings):
    """What a worker would play, in this process."""
    return Game(**registry.make(f"starcraft/{map_name}", game=f"standin_smac:{kind}", **settings).settings)


# -- layouts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("map_name", MAPS)
def test_a_battle_has_the_simulators_sizes_and_slots(map_name):
    spec, simulated = registry.make(f"starcraft/{map_name}").spec, registry.make(f"smac/{map_name}").spec
    assert vars(spec) | {"name": simulated.name} == vars(simulated) and spec.name == f"starcraft/{map_name}"


@pytest.mark.parametrize("map_name", ["3m", "2s3z"])
def test_through_the_door_everything_is_as_in_the_simulator(map_name):
    """One battle, move by move, fought on both sides of the door."""
    env, there = make(map_name), game("Simulated", map_name)
    reset, step, observe = (jax.jit(f) for f in (env.reset, env.step, env.observe))
    key, chance, rng = jax.random.key(7), None, np.random.default_rng(0)
    key, chance = jax.random.split(key)
    there.reset(7)
    here = reset(chance)
    for _ in range(env.spec.episode_limit):
        for a, b in zip(observe(here)[:4], there.observe(), strict=True):
            assert a.shape == b.shape and np.array_equal(a, b)
        avail = there.observe()[2]
        action = np.where(avail, rng.random(avail.shape), -1).argmax(-1)
        key, chance = jax.random.split(key)
        here, outcome = step(here, action, chance)
        reward, terminated, truncated, info = there.step(action)
        assert (reward, terminated, truncated) == (float(outcome.reward), bool(outcome.terminated), bool(outcome.truncated))
        assert info == {"won": bool(outcome.info["won"])}
        if terminated or truncated:
            break
    assert not observe(here).alive.all(), "the battle was one"


def test_the_dead_may_do_nothing_and_are_not_alive():
    battle = game("Signals")
    battle.reset(0)
    for _ in range(standin_smac.LENGTH):
        battle.step(np.array([2, 2]))
    battle.reset(0)
    for alive in (True, True, False, False):
        _, _, avail, living = battle.observe()
        assert living.tolist() == [True, alive] and avail[1].tolist() == ([not alive] + [alive] * 5 + [False])
        battle.step(np.where(living, 2, 0))


# -- how an episode ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Endless", "Silent"])
def test_the_time_limit_is_truncation(kind):
    battle = game(kind)
    battle.reset(0)
    ends = [battle.step(np.where(battle.observe()[3], 2, 0))[1:3] for _ in range(150)]
    assert ends[:-1] == [(False, False)] * 149 and ends[-1] == (False, True)


def test_a_victory_is_an_end():
    battle = game("Signals")
    battle.reset(0)
    steps = [battle.step(np.where(battle.observe()[0][:, 4] > 0, 2, 3)) for _ in range(4)]
    assert steps == [(1.0, False, False, {"won": False})] * 3 + [(1.0, True, False, {"won": True})]


def test_a_crash_inside_the_game_is_a_lost_episode():
    battle = game("Wobbly")
    battle.reset(0)
    steps = [battle.step(np.array([2, 2])) for _ in range(3)]
    assert steps[2] == (0.0, False, True, {"won": False, "lost": True})


# -- who plays -------------------------------------------------------------------------------------------------------------


def package(monkeypatch, folder, name, inside, text=""):
    (folder / name / inside).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def real(monkeypatch):
    games = {"smac": "smac/env/starcraft2", "smacv2": "smacv2/env/starcraft2", "smaclite": "smaclite/env"}
    monkeypatch.setattr(finding, "GAMES", games)
    monkeypatch.setattr(
        finding, "_found", lambda name, found=finding._found: None if name in sys.builtin_module_names else found(name)
    )


def test_no_game_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (
        ["train", "qmix", "--env", "starcraft/3m"],
        ["train", "qmix", "--env", "starcraft/3m", "--env-set", "game=smacv2"],
    ):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--out", "fresh"])
        said = capsys.readouterr().err
        assert stop.value.code == 2 and said.count("\n") == 1
        for word in ("SC2PATH", "LIMBECK_STARCRAFT", "github.com/oxwhirl/smac"):
            assert word in said or "there is no game called 'smacv2'" in said
    assert not (tmp_path / "fresh").exists()


def test_the_automl_tool_of_the_same_name_is_recognised(tmp_path, monkeypatch, real):
    package(monkeypatch, tmp_path, "smac", "facade", "raise RuntimeError('imported')")
    with pytest.raises(WorldFailed, match="the package `smac` that is installed is another one"):
        find()


def test_the_game_is_found_without_being_imported(tmp_path, monkeypatch, real):
    package(monkeypatch, tmp_path, "smac", "env/starcraft2", "raise RuntimeError('imported')")
    monkeypatch.setenv("SC2PATH", str(tmp_path / "nowhere"))
    with pytest.raises(WorldFailed, match=r"StarCraft II is not in .*nowhere: unpack its Linux package, and set SC2PATH"):
        find()
    (tmp_path / "nowhere/Versions").mkdir(parents=True)
    assert find() == "smac" == find("smac") and "smac" not in sys.modules
    monkeypatch.setenv("LIMBECK_STARCRAFT", "standin_smac:Signals")
    assert find() == "standin_smac:Signals" and find("smac") == "smac"


@pytest.mark.parametrize(("name", "says"), [("pysc2", "there is no game called 'pysc2'"), ("no_such:thing", "cannot be imported")])
def test_a_game_that_means_nothing_is_refused(name, says):
    with pytest.raises((BadSetting, WorldFailed), match=says):
        registry.make("starcraft/3m", game=name).require()


def test_what_goes_wrong_in_the_game_is_said_in_one_line():
    for kind, says in (
        ("Larger", r"plays 2m_vs_1z with other sizes than limbeck's map of this name: obs_shape 17 instead of 16"),
        ("NoSuchClass", "the game standin_smac:NoSuchClass cannot be imported: .*NoSuchClass"),
        ("impostor", "does not start: ImportError: no module named sc2"),
        ("Exiting", r"does not start: its process ended \(exit code 3\)"),
    ):
        with pytest.raises(WorldFailed, match=says):
            Workers(registry.make("starcraft/2m_vs_1z", game=f"standin_smac:{kind}"), 1)


# -- settings --------------------------------------------------------------------------------------------------------------


class Strict:
    """Knows few settings, but has SMAC's methods for ranges."""

    def __init__(self, map_name, seed, difficulty, reward_win=200.0):
        self.told = difficulty, reward_win, seed

    def unit_sight_range(self, agent_id):
        return 9

    def get_env_info(self):
        return {"n_agents": 2, "n_actions": 7, "obs_shape": 16, "state_shape": 26}

    def reset(self):
        pass


def test_settings_reach_the_game_and_others_are_refused():
    def begin(**settings):
        battle = Game(**registry.make("starcraft/2m_vs_1z", game="test_starcraft:Strict", **settings).settings)
        battle.reset(11)
        return battle._game

    from test_starcraft import Strict as Imported

    played = begin(difficulty="9", reward_win=50, sight_range=6, balance="ladder")
    assert isinstance(played, Imported) and played.told == ("9", 50, 11) and played.unit_sight_range(0) == 6
    with pytest.raises(BadSetting, match="has no setting obs_last_action"):
        Game(
            **registry.make("starcraft/2m_vs_1z", game="test_starcraft:Strict").settings | {"options": {"obs_last_action": True}}
        ).reset(0)
    with pytest.raises(BadSetting, match="cannot be given another shoot_range than 6"):
        begin(shoot_range=5)


def test_smaclite_speaks_through_a_wrapper(tmp_path, monkeypatch):
    """A module with SMAClite's names and habits; two generations of them."""

    class Battle:
        n_agents, n_actions, obs_size, state_size, enemies = 2, 7, 16, 26, {0: "zealot"}
        unwrapped = property(lambda self: self)

        def reset(self):
            return (*[np.zeros(16)] * 2,) if self.old else ((*[np.zeros(16)] * 2,), {})

        def step(self, actions):
            assert all(type(a) is int for a in actions)
            self.enemies = {}
            return (*[np.ones(16)] * 2,), 20.0, True, *(() if self.old else (False,)), {}

        def get_state(self):
            return np.zeros(26)

        def get_avail_actions(self):
            return [np.eye(7)[1]] * 2

    for library, old in (("gym", True), ("gymnasium", False)):
        monkeypatch.setattr(Battle, "old", old, raising=False)
        made = types.SimpleNamespace(make=lambda name, seed: Battle() if name == "smaclite/2m_vs_1z-v0" else None)
        monkeypatch.setitem(sys.modules, "smaclite", types.ModuleType("smaclite"))
        monkeypatch.delitem(sys.modules, "gymnasium", raising=False)
        monkeypatch.setitem(sys.modules, library, made)
        battle = Game(**registry.make("starcraft/2m_vs_1z", game="limbeck.envs.starcraft.lite:Lite").settings)
        battle.reset(0)
        assert battle.observe()[3].all() and battle.observe()[0].shape == (2, 16)
        assert battle.step(np.array([1, 1])) == (20.0, True, False, {"won": True})


# -- the command line ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder that was trained in the simulator."""
    folder = tmp_path_factory.mktemp("door")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("JAX_NUM_CPU_DEVICES", "2")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))
        main(["train", "vdn", "--env", "smac/3m", "--steps", "16", *TINY, *QUICK, "--env-set", "balance=ladder", "--out", "run"])
        yield folder


@pytest.mark.parametrize("kind", ["Signals", pytest.param("Simulated", marks=pytest.mark.long)])
def test_a_run_of_the_simulator_is_evaluated_in_the_game(run, kind, monkeypatch):
    monkeypatch.setenv("LIMBECK_STARCRAFT", f"standin_smac:{kind}")
    episodes = "24" if kind == "Simulated" else "5"
    main(["evaluate", "run", "--env", "starcraft/3m", "--episodes", episodes, "--json", "there.json"])
    (there,) = json.loads((run / "there.json").read_text())["rows"]
    assert there["episodes"] == int(episodes) and there["lost_episodes"] is None
    if kind == "Signals":
        assert there["length"] == standin_smac.LENGTH
        return
    main(["evaluate", "run", "--episodes", "256", "--json", "here.json"])
    (here,) = json.loads((run / "here.json").read_text())["rows"]
    assert here["return_ci"][0] - 2 < there["return"] < here["return_ci"][1] + 2, "the same game on both sides of the door"


def test_worlds_of_other_sizes_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "run", "--env", "starcraft/2s3z"])
    assert "run was trained in smac/3m, whose sizes are not those of starcraft/2s3z" in capsys.readouterr().err


def test_the_list_knows_which_worlds_need_a_game(capsys):
    main(["list"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "starcraft/3m " in line]
    assert "game" in line
