"""Football without its engine: features and rewards by hand, ends with a stand-in, and what is said if the game is missing."""

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest

from limbeck.cli import main
from limbeck.envs import registry
from limbeck.envs.football import find, rewards
from limbeck.envs.football.features import observations, sizes, slots, state
from limbeck.envs.football.game import Game
from limbeck.envs.football.scenarios import SCENARIOS
from limbeck.envs.workers import Workers
from limbeck.errors import BadSetting, WorldFailed

THERE = all(importlib.util.find_spec(name) for name in ("gfootball", "gfootball_engine"))
TERMINATED, TRUNCATED, GOING_ON = (True, False), (False, True), (False, False)


# -- features, by hand -----------------------------------------------------------------------------------------------------

PITCH = {
    "left_team": np.array([[-1.0, 0.0], [0.5, 0.25], [0.75, -0.25]]),
    "left_team_direction": np.array([[0.0, 0.0], [0.01, 0.02], [-0.03, 0.0]]),
    "left_team_tired_factor": np.array([0.0, 0.125, 0.25]),
    "left_team_roles": np.array([0, 5, 9]),
    "right_team": np.array([[1.0, 0.0]]),
    "right_team_direction": np.array([[0.0, -0.01]]),
    "right_team_tired_factor": np.array([0.5]),
    "right_team_roles": np.array([0]),
    "ball": np.array([0.5, 0.125, 0.25]),
    "ball_direction": np.array([0.1, 0.2, 0.3]),
    "ball_rotation": np.array([0.4, 0.5, 0.6]),
    "ball_owned_team": 0,
    "ball_owned_player": 2,
}


def pitch(**changes):
    return PITCH | changes


def test_an_observation_by_hand():
    first, second = observations(PITCH, (1, 2))
    own = [0.5, 0.25, 0.01, 0.02]
    mates = [-1.5, -0.25, 0, 0, 0, 0, 0.01, 0.02, 0.25, -0.5, -0.03, 0]
    assert np.allclose(first, [*own, *mates, 0.5, -0.25, 0, -0.01, 0.5, 0.125, 0.25, 1, 0, 0, 0, 1, 0])
    own = [0.75, -0.25, -0.03, 0]
    mates = [-1.75, 0.25, 0, 0, -0.25, 0.5, 0.01, 0.02, 0, 0, -0.03, 0]
    assert np.allclose(second, [*own, *mates, 0.25, 0.25, 0, -0.01, 0.5, 0.125, 0.25, 1, 0, 0, 0, 0, 1])
    assert first.dtype == np.float32


def one_hot(i, n):
    return [float(i == j) for j in range(n)]


def test_the_state_by_hand():
    players = [
        [-1, 0, 0, 0, 0, *one_hot(0, 10)],
        [0.5, 0.25, 0.01, 0.02, 0.125, *one_hot(5, 10)],
        [0.75, -0.25, -0.03, 0, 0.25, *one_hot(9, 10)],
        [1, 0, 0, -0.01, 0.5, *one_hot(0, 10)],
    ]
    ball = [0.5, 0.125, 0.25, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    whole = state(PITCH)
    assert np.allclose(whole, [*np.ravel(players), *ball, 1, 0, 0, *one_hot(2, 12)]) and whole.dtype == np.float32
    for (start, stop), player in zip(slots(3, 1), players, strict=True):
        assert np.allclose(whole[start:stop], player)


@pytest.mark.parametrize(("team", "player", "who"), [(0, 10, [1, 0, 0]), (1, 3, [0, 0, 1]), (-1, -1, [0, 1, 0])])
def test_who_owns_the_ball(team, player, who):
    owned = pitch(ball_owned_team=team, ball_owned_player=player)
    assert observations(owned, (1,))[0, 23:26].tolist() == who
    assert state(owned)[-15:].tolist() == [*who, *one_hot(player % 12, 12)]


def test_sizes_are_those_of_the_features():
    assert sizes(3, 1) == (observations(PITCH, (1, 2)).shape[1], state(PITCH).size)
    assert sizes(4, 2) == (38, 114) and sizes(11, 11) == (109, 354)


# -- rewards, by hand ------------------------------------------------------------------------------------------------------


def at(distance, team=0, player=1):
    """The ball so far from the goal, straight in front of it."""
    return pitch(ball=np.array([1 - distance, 0.0, 0.5]), ball_owned_team=team, ball_owned_player=player)


@pytest.mark.parametrize(("distance", "circles"), [(1.0, 0), (0.98, 1), (0.9, 2), (0.5, 6), (0.2, 9), (0.18, 10), (0.0, 10)])
def test_circles_are_paid_once_to_who_has_the_ball(distance, circles):
    """They are 0.99, 0.901, 0.812, 0.723, 0.634, 0.546, 0.457, 0.368, 0.279 and 0.19 from the goal."""
    nothing = np.zeros(2, int)
    paid, passed = rewards.checkpoints(0, at(distance), (1, 2), nothing)
    assert np.allclose(paid, [0.1 * circles, 0]) and passed.tolist() == [circles, 0]
    again, passed = rewards.checkpoints(0, at(distance + 0.3), (1, 2), passed)
    assert not again.any() and passed.tolist() == [circles, 0], "to go back takes nothing away"
    for team, player in ((1, 1), (-1, -1), (0, 0)):
        assert not rewards.checkpoints(0, at(distance, team, player), (1, 2), nothing)[0].any()


def test_a_goal_pays_what_is_left():
    paid, passed = rewards.checkpoints(1, at(0.0, team=-1, player=-1), (1, 2), np.array([4, 0]))
    assert np.allclose(paid, [1.6, 2.0]) and passed.tolist() == [10, 10]


def test_goals_alone():
    nothing = np.zeros(2, int)
    for score in (1, 0, -1):
        paid, passed = rewards.scoring(score, at(0.1), (1, 2), nothing)
        assert paid.tolist() == [score, score] and passed is nothing
    assert np.allclose(rewards.checkpoints(-1, at(0.5, team=1), (1, 2), nothing)[0], [-1, -1])


# -- how an episode ends ---------------------------------------------------------------------------------------------------


class Script:
    """An engine that does as it is told: in each step, what the step changes in the score, and whether it ends the episode."""

    def __init__(self, steps=((0, False),) * 9, controlled=(1, 2)):
        self.steps, self.controlled, self.told, self.seeds, self.config = steps, controlled, [], [], {}

    def reset(self):
        self.left, self.score = iter(self.steps), [0, 0]
        self.seeds.append(dict(self.config))

    def observation(self):
        return pitch(left_agent_controlled_player=list(self.controlled), score=self.score)

    def step(self, action):
        self.told.append(action)
        change, ended = next(self.left)
        self.score = [self.score[0] + (change > 0), self.score[1] + (change < 0)]
        return self.observation(), change, ended, {}


def played(steps, limit=4, reward="scoring"):
    core = Script(steps)
    game = Game(core, core.config, (1, 2), reward, limit)
    game.reset(0)
    return [game.step(np.array([3, 18])) for _ in steps], core


@pytest.mark.parametrize(
    ("last", "end"),
    [
        ((1, True), (2.0, *TERMINATED, {"won": True})),
        ((-1, True), (-2.0, *TERMINATED, {"won": False})),
        ((0, True), (0.0, *TERMINATED, {"won": False})),
        ((0, False), (0.0, *TRUNCATED, {"won": False})),
    ],
)
def test_the_engines_ends_are_ends_and_the_time_limit_is_none(last, end):
    """In the very last step a goal is still a goal."""
    steps, core = played([*[(0, False)] * 3, last])
    assert steps == [(0.0, *GOING_ON, {"won": False})] * 3 + [end]
    assert core.told == [[3, 18]] * 4 and all(type(a) is int for a in core.told[0])


def test_every_episode_begins_anew():
    core = Script([(0, False)] * 2)
    game = Game(core, core.config, (1, 2), "checkpoints", 2)
    for seed in (4, 7):
        game.reset(seed)
        assert [game.step(np.array([0, 0]))[2] for _ in range(2)] == [False, True]
    # The ball is 0.52 from the goal: inside of six circles, in every episode again.
    game.reset(4)
    assert game.step(np.array([0, 0]))[0] == pytest.approx(0.6)
    assert core.seeds == [{"game_engine_random_seed": seed, "reverse_team_processing": seed == 7} for seed in (4, 7, 4)]


def test_another_choice_of_players_is_noticed():
    core = Script(controlled=(0, 2))
    with pytest.raises(ValueError, match=r"controls players \(0, 2\) instead of \(1, 2\)"):
        Game(core, core.config, (1, 2), "scoring", 5).reset(0)


# -- the register ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("academy_3_vs_1_with_keeper", (3, 19, 38, 114, 150)),
        ("academy_3_vs_2_with_keeper", (3, 19, 42, 129, 150)),
        ("academy_counterattack_easy", (4, 19, 109, 354, 150)),
        ("academy_counterattack_hard", (4, 19, 109, 354, 150)),
        ("academy_counterattack_hard_trimmed", (4, 19, 47, 144, 150)),
        ("academy_run_pass_and_shoot_with_keeper", (2, 19, 33, 99, 150)),
    ],
)
def test_sizes(name, known):
    spec = registry.make(f"football/{name}").spec
    assert (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit) == known
    assert spec.has_win and set(known) and spec.state_slots is not None
    parts = sorted([*spec.state_slots, *spec.other_slots])
    assert parts == list(slots(len(SCENARIOS[name].left), len(SCENARIOS[name].right))) and 0 not in SCENARIOS[name].agents
    assert spec.state_slots == tuple(parts[i] for i in SCENARIOS[name].agents)


def test_the_table_of_scenarios_is_true():
    page = (Path(__file__).parents[1] / "docs" / "worlds.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(academy_\w+)`[^|]*\| (\d+) \|.*\| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    specs = {name: registry.make(f"football/{name}").spec for name in SCENARIOS}
    sizes = {name: (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim) for name, spec in specs.items()}
    assert {name: tuple(map(int, numbers)) for name, *numbers in rows} == sizes


@pytest.mark.parametrize("wrong", [{"reward": "dense"}, {"episode_limit": 0}, {"episode_limit": 2.5}, {"timeout": -1}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(BadSetting, match=next(iter(wrong))):
        registry.make("football/academy_3_vs_1_with_keeper", **wrong)


def test_the_list_says_what_football_needs(capsys):
    main(["list"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "football/" in line]
    assert len(lines) == len(SCENARIOS) and all("extra football" in line and "Apache-2.0" in line for line in lines)


# -- without the engine ----------------------------------------------------------------------------------------------------


def test_a_missing_engine_is_one_line_that_names_the_script(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("gfootball") else found(name))
    for words in (["check"], ["train", "qmix", "--out", "fresh", "--env"]):
        with pytest.raises(SystemExit) as stop:
            main([*words, "football/academy_3_vs_1_with_keeper"])
        said = capsys.readouterr().err
        assert stop.value.code == 2 and said.count("\n") == 1 and "Google Research Football is not installed" in said
        assert f"bash {find.SCRIPT}" in said and find.SCRIPT.is_file()
    assert not (tmp_path / "fresh").exists()


@pytest.mark.skipif(THERE, reason="the engine is there")
def test_a_worker_without_the_engine_says_the_same():
    with pytest.raises(WorldFailed, match=r"cannot be loaded \(No module named 'gfootball'\); to build .* run: bash .*install\.sh"):
        Workers(registry.make("football/academy_3_vs_1_with_keeper"), 1)


def test_the_script_is_sound_and_installs_what_the_extra_names(tmp_path):
    text = find.SCRIPT.read_text()
    extras = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"--no-build-isolation {extras['football'][0]}\n" in text
    assert subprocess.run(["bash", "-n", find.SCRIPT], check=False).returncode == 0
    nowhere = subprocess.run(["bash", find.SCRIPT, tmp_path / "python"], capture_output=True, text=True, check=False)
    assert nowhere.returncode == 1 and nowhere.stderr == f"there is no {tmp_path}/python; give the path of a Python\n"
