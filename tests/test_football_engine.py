"""Football in the real engine: skipped, with the reason, where it is not installed."""

import contextlib
import importlib.util
import os
import re
import signal
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from limbeck import acting
from limbeck.cli import main
from limbeck.envs import registry
from limbeck.envs.check import check_env
from limbeck.envs.football import rewards
from limbeck.envs.football.game import ACTIONS, engine, world
from limbeck.envs.football.scenarios import CLOCK, SCENARIOS, level_of
from limbeck.envs.workers import Workers
from limbeck.errors import WorldFailed
from limbeck.hosted import collect, compiled, start

THERE = all(importlib.util.find_spec(name) for name in ("gfootball", "gfootball_engine"))
pytestmark = [
    pytest.mark.skipif(not THERE, reason="Google Research Football is not installed: src/limbeck/envs/football/install.sh"),
    pytest.mark.filterwarnings("ignore"),  # what the game imports warns of its own age
]

SHIPPED = [name for name in SCENARIOS if name not in ("academy_3_vs_2_with_keeper", "academy_counterattack_hard_trimmed")]
TERMINATED, TRUNCATED, GOING_ON = (True, False), (False, True), (False, False)
RIGHT, SHOT = 5, 12


@contextlib.contextmanager
def match(name="academy_3_vs_1_with_keeper", reward="checkpoints", episode_limit=150):
    game = world(name, reward, episode_limit)
    try:
        yield game
    finally:
        game.close()


def episode(game, seed, steps=40):
    """Everything that is seen and paid in some steps, or until the end; what is done depends on the seed too."""
    chance, log = np.random.default_rng(seed), []
    game.reset(seed)
    for _ in range(steps):
        log.append([each.copy() for each in game.observe()[:2]])
        reward, terminated, truncated, info = game.step(chance.integers(ACTIONS, size=len(game._agents)))
        log.append([np.array([reward, terminated, truncated, info["won"]])])
        if terminated or truncated:
            break
    return np.concatenate([array.ravel() for each in log for array in each])


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_keeps_the_contract(name):
    check_env(registry.make(f"football/{name}", workers=2), worlds=2)


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_episode_begins_as_the_scenario_says_and_the_players_stay_the_same(name):
    scenario = SCENARIOS[name]
    with match(name) as game:
        for seed in (0, 1):  # in one of them the other team is computed first
            game.reset(seed)
            seen = game._pitch
            assert np.allclose(seen["left_team"], [place[1:] for place in scenario.left], atol=0.02)
            assert np.allclose(seen["right_team"], [[-place.x, -place.y] for place in scenario.right], atol=0.02)
            assert np.allclose(seen["ball"][:2], scenario.ball, atol=0.02) and seen["game_mode"] == 0
            assert max(*seen["left_team_roles"], *seen["right_team_roles"]) < 10
            ended = False
            while not ended:
                ended = any(game.step(np.full(len(scenario.agents), RIGHT))[1:3])
                assert tuple(game._pitch["left_agent_controlled_player"]) == scenario.agents


@pytest.mark.parametrize("name", SHIPPED)
def test_scenarios_of_the_game_are_the_games_own(name):
    """What the engine is told is the same as by the game's file, but for who can be controlled, and the clock."""

    class Builder:
        def __init__(self):
            self.told, self.settings = [], SimpleNamespace()

        def config(self):
            return self.settings

        def AddPlayer(self, *args, controllable=True):  # noqa: N802
            self.told.append(args)

        def SetBallPosition(self, *args):  # noqa: N802
            self.told.insert(0, args)

        def SetTeam(self, team):  # noqa: N802
            self.told.append(team)

    ours, theirs = Builder(), Builder()
    importlib.import_module("gfootball.scenarios")
    for level, builder in ((level_of(name), ours), (name, theirs)):
        importlib.import_module(f"gfootball.scenarios.{level}").build_scenario(builder)
    assert ours.told == theirs.told
    assert vars(ours.settings) == vars(theirs.settings) | {"game_duration": CLOCK}


def test_the_same_seed_is_the_same_episode_whatever_was_played_before():
    with match() as game, match() as other:
        first = episode(game, 11)
        second = episode(other, 12)
        assert np.array_equal(episode(other, 11), first), "after another episode, whose seed was even"
        assert np.array_equal(episode(game, 12), second)
        assert len(first) != len(second) or not np.array_equal(first, second)


def test_the_time_limit_truncates_and_a_lost_ball_terminates():
    with match(episode_limit=3) as game:
        game.reset(0)
        assert [game.step(np.zeros(3))[1:3] for _ in range(3)] == [GOING_ON, GOING_ON, TRUNCATED]
    with match(reward="scoring") as game:
        game.reset(0)
        ends = []
        while not ends or ends[-1][1:3] == GOING_ON:
            ends.append(game.step(np.full(3, RIGHT)))  # into the arms of the other team, or out
        assert ends[-1] == (0.0, *TERMINATED, {"won": False}) and len(ends) < 150


def test_a_goal_is_a_victory_and_pays_two_to_each():
    """One runs and shoots: that is a goal in some of these episodes."""
    with match("academy_run_pass_and_shoot_with_keeper") as game:
        victories = []
        for seed in range(40):
            game.reset(seed)
            total, end = 0.0, GOING_ON
            for t in range(150):
                owner = game._pitch["ball_owned_player"] if game._pitch["ball_owned_team"] == 0 else -1
                action = [SHOT if agent == owner and t > 5 else RIGHT for agent in game._agents]
                reward, *end, info = game.step(np.array(action))
                total += reward
                if any(end):
                    break
            assert info["won"] == (game._pitch["score"][0] == 1)
            if info["won"]:
                assert tuple(end) == TERMINATED
                victories.append(total)
        assert victories and np.allclose(victories, 4.0)


def test_checkpoints_are_those_of_the_games_wrapper():
    from gfootball.env.wrappers import CheckpointRewardWrapper  # pyright: ignore[reportMissingImports]

    chance, circles = np.random.default_rng(0), 0
    for _ in range(200):
        theirs = SimpleNamespace(_collected_checkpoints={}, _num_checkpoints=10, _checkpoint_reward=0.1)
        passed = np.zeros(3, int)
        for _ in range(8):
            score = int(chance.choice([0, 0, 0, 0, 0, 0, 1, -1]))
            ball = np.array([1 - chance.uniform(0, 1.2), 0.0, 0.1])
            seen = {"ball": ball, "ball_owned_team": chance.integers(-1, 2), "ball_owned_player": chance.integers(0, 4)}
            each = [seen | {"active": agent} for agent in (1, 2, 3)]
            theirs.env = SimpleNamespace(unwrapped=SimpleNamespace(observation=lambda each=each: each))
            expected = CheckpointRewardWrapper.reward(theirs, [float(score)] * 3)
            paid, passed = rewards.checkpoints(score, seen, (1, 2, 3), passed)
            assert np.allclose(paid, expected)
            circles += int(paid.sum() > 0)
    assert circles > 200


def test_games_that_share_a_process_are_those_of_processes_of_their_own():
    def played(per_process):
        chance, env = np.random.default_rng(0), registry.make("football/academy_3_vs_1_with_keeper", per_process=per_process)
        with Workers(env, 3, seed=5) as workers:
            steps = [workers.step(chance.integers(0, env.spec.n_actions, (3, 3))) for _ in range(60)]
        return [np.stack(each) for each in zip(*((o.reward, o.terminated, seen.state) for o, seen in steps), strict=True)]

    apart, together = played(1), played(3)
    assert apart[1].any(), "episodes end, and others begin"
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_games_are_the_same_whoever_acts():
    def act(params, carry, decision, key, explore):
        return jax.random.randint(key, decision.alive.shape, 0, ACTIONS), carry

    env, carry = registry.make("football/academy_3_vs_1_with_keeper"), np.zeros((2, 3))
    known = acting.Known((), jax.random.key(1), 0.0)
    with Workers(env, 2, seed=5) as workers:
        expected = collect(workers, compiled(act), (), start(workers, carry), known.key, 0.0, 60)[1]
    with acting.start_workers(env, 2, 5, act, known, carry, 60) as workers:
        worlds = start(workers, carry)
        acting.send(workers, known, worlds)
        segment = acting.collect(workers, worlds)[1]
    assert expected.terminated.any(), "episodes end, and others begin"
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(segment), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_crashes_or_hangs_is_replaced_and_its_episode_truncated(how):
    env = registry.make("football/academy_3_vs_1_with_keeper", timeout=5)
    with Workers(env, 2, seed=3) as workers:
        workers.step(np.zeros((2, 3), np.int32))
        os.kill(workers.pids[1], how)
        outcome, seen = workers.step(np.zeros((2, 3), np.int32))
        assert outcome.truncated.tolist() == [False, True] == outcome.info["lost"].tolist() and not outcome.terminated.any()
        assert np.allclose(seen.obs[1, 0, :2], [0.6, 0.0], atol=0.02), "the first decision of a new episode"
        outcome, _ = workers.step(np.zeros((2, 3), np.int32))
        assert not outcome.info["lost"].any() and len(workers.losses) == 1


def test_a_team_is_trained_and_judged_by_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    tiny = ["--hidden", "8", "--embed", "4", "--hyper", "8", "--segment", "8", "--batch", "4", "--buffer", "32", "--worlds", "2"]
    quick = ["--steps", "64", "--evaluations", "1", "--evaluation-episodes", "2", "--env-set", "episode_limit=20"]
    main(["train", "qmix", "--env", "football/academy_3_vs_1_with_keeper", *tiny, *quick, "--out", "run"])
    main(["evaluate", "run", "--episodes", "2"])
    assert re.search(r"run.* greedy", capsys.readouterr().out)


def test_an_engine_that_cannot_be_loaded_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "gfootball.env", None)
    with pytest.raises(WorldFailed, match=r"cannot be loaded \(.*gfootball.*\); to build and install it once, run: bash"):
        engine("academy_3_vs_1_with_keeper", 3)
