"""Worlds that others have written, by stand-ins that speak their language; and by the real ones where they are installed."""

import importlib.util
import json

import jax
import numpy as np
import pytest
import standin_teams

from limbeck.cli import main
from limbeck.envs import registry
from limbeck.envs.adapters import parallel, tuples
from limbeck.envs.adapters.doors import DOORS
from limbeck.envs.adapters.team import Rules, Team, limit_of
from limbeck.envs.check import check_env
from limbeck.envs.workers import Workers
from limbeck.errors import BadSetting, LimbeckError, WorldFailed

GO = (False, False)
TERMINATED, TRUNCATED = (True, False), (False, True)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """The command line finds devices and cache decided, and leaves them alone."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))


def post(kind="Post", won="", rules=(), **options):
    """What a worker would play, in this process."""
    return parallel.world(f"standin_teams:{kind}", options, dict(rules), won)


def orchard(**options):
    return tuples.world("standin_teams:Orchard", options, {})


def ends_of(team, action, steps):
    """(terminated, truncated) of some steps."""
    return [team.step(np.array(action))[1:3] for _ in range(steps)]


# -- agents of different sizes ---------------------------------------------------------------------------------------------


def test_who_sees_or_can_do_less_sees_zeros_and_has_actions_that_are_never_available():
    team = post()
    team.reset(3)
    for t in range(3):
        obs, _, avail, alive = team.observe()
        cue = team._table.env.cue
        assert obs.dtype == np.float32 and np.allclose(obs, [[cue["scout"], t / 10, 0, 0], [cue["guard"], t / 10, 0, 1]])
        assert avail.tolist() == [[True, True, False, False], [True, True, True, t % 2 == 1]], "masks beside and inside of obs"
        assert alive.all()
        team.step(np.array([0, 0]))


def test_masks_and_rewards_of_a_tuple_environment():
    team = orchard(masks=True)
    team.reset(0)
    obs, state, avail, _ = team.observe()
    assert obs.tolist() == [[2, 0, 0], [2, 0, 1]] and (state == obs.ravel()).all()
    assert avail.tolist() == [[True, True, False], [True, True, False]]
    assert team.step(np.array([1, 1]))[0] == 1.5 and team.step(np.array([1, 0]))[0] == 0
    free = orchard()
    free.reset(0)
    assert free.observe()[2].tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize(("rule", "paid"), [("sum", 2.0), ("mean", 1.0)])
def test_the_teams_reward_is_the_sum_or_the_mean(rule, paid):
    team = post(rules={"reward": rule})
    for _ in range(2):
        team.reset(0)
    for t in range(4):
        right = np.array(list(team._table.env.cue.values())) > 0
        share = 1.0 if t < 2 else 0.5  # the scout has left, and is paid nothing any more
        assert team.step(right.astype(int))[0] == paid * share


def test_the_state_is_the_environments_own_or_all_observations():
    own = post().facts()
    assert own["state_dim"] == 4 and own["state_slots"] is None
    for team in (post("Stateless"), post(rules={"state": "observations"})):
        facts = team.facts()
        obs, state, *_ = team.observe()
        assert facts["state_dim"] == 8 and facts["state_slots"] == [[0, 4], [4, 8]] and (state == obs.ravel()).all()
    team = post()
    team.reset(7)
    team.step(np.array([0, 1]))
    assert team.observe()[1].tolist() == [1, 0, *team._table.env.cue.values()]


def test_every_episode_has_the_seed_it_is_given():
    team = post()
    for seed in (5, 6, 5):
        team.reset(seed)
        assert team._table.env.seed == seed
    team.close()
    assert team._table.env.closed


# -- how an episode ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ends", "last"), [("time", TRUNCATED), ("world", TERMINATED)])
def test_the_end_of_the_time_is_not_the_end_of_the_world(ends, last):
    team = post(ends=ends)
    team.reset(0)
    assert ends_of(team, [0, 0], 4) == [GO] * 3 + [last]


def test_who_leaves_early_is_not_alive_and_has_one_action_that_nobody_is_told():
    team = post(ends="world")
    for _ in range(2):
        team.reset(0)
    living = []
    for _ in range(4):
        obs, _, avail, alive = team.observe()
        living.append(alive.tolist())
        if not alive[0]:
            assert avail[0].tolist() == [True, False, False, False] and not obs[0].any()
        last = team.step(np.array([0, 0]))[1:3]
    assert living == [[True, True]] * 2 + [[False, True]] * 2 and last == TERMINATED


def test_the_last_to_leave_decides_how_it_ended():
    team = post(ends="time", leaves=4)  # the scout's world ends when the guard's time does
    for _ in range(2):
        team.reset(0)
    assert ends_of(team, [0, 0], 4)[-1] == TRUNCATED
    alone = post(ends="world", leaves=1)
    for _ in range(2):
        alone.reset(0)
    assert ends_of(alone, [0, 0], 4) == [GO] * 3 + [TERMINATED]


def test_a_shorter_limit_cuts_the_episode():
    team = post(ends="world", rules={"episode_limit": 3})
    assert team.facts()["episode_limit"] == 3
    team.reset(0)
    assert ends_of(team, [0, 0], 3) == [GO, GO, TRUNCATED]


def test_the_limit_is_found_behind_wrappers():
    assert limit_of(standin_teams.Wrapped(max_cycles=9)) == 9 and limit_of(standin_teams.Endless()) is None
    team = Team(parallel.Parallel(standin_teams.Wrapped()), Rules())
    assert team.facts() | {"has_win": False} == post().facts()


@pytest.mark.parametrize("flags", ["one", "each"])
def test_one_flag_for_two_ends_is_taken_apart(flags):
    """As level-based foraging has it."""

    def team(fruit):
        env = standin_teams.Orchard(fruit=fruit, flags=flags)
        made = Team(tuples.Tuples(env, finished=lambda env: env.left == 0, won=True), Rules(), has_win=True)
        made.reset(0)
        return made

    picked, hungry = team(2), team(9)
    steps = [picked.step(np.array([1, 1])) for _ in range(2)]
    assert [step[1:3] for step in steps] == [GO, TERMINATED] and [step[3]["won"] for step in steps] == [False, True]
    last = [hungry.step(np.array([1, 1])) for _ in range(6)][-1]
    assert last[1:3] == TRUNCATED and not last[3]["won"]
    assert ends_of(orchard(fruit=9), [1, 1], 0) == []


def test_infos_may_say_who_has_won():
    team = post(victory=True, won="rescued")
    assert team.facts()["has_win"] and not post(victory=True).facts()["has_win"]
    team.reset(0)
    assert [team.step(np.array([0, 0]))[3]["won"] for _ in range(4)] == [False] * 3 + [True]
    other = tuples.world("standin_teams:Orchard", {"fruit": 1}, {}, won="picked")
    other.reset(0)
    assert other.step(np.array([1, 1]))[3]["won"]


# -- what is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("Steering", "the actions of scout are a Box space; limbeck plays with Discrete ones alone"),
        ("Reading", "scout observes a Dict of words; it must be observation and action_mask"),
        ("Counting", "scout observes a MultiDiscrete space; it must be a Box"),
        ("Endless", "does not say after how many steps it stops; set episode_limit"),
        ("Worded", "returns no array of numbers; set state=observations"),
        ("thing", "cannot be made with the options"),
        ("nothing", "standin_teams has no nothing"),
    ],
)
def test_what_cannot_be_played_is_said(kind, says):
    with pytest.raises(LimbeckError, match=says):
        post(kind).facts()


def test_masks_that_make_no_sense_are_said():
    team = post("Bound")
    team.reset(0)
    with pytest.raises(ValueError, match="the action_mask of guard leaves it no action"):
        team.step(np.array([0, 0]))
    with pytest.raises(BadSetting, match="observation_space is a Box; it must be a Tuple with a space for every agent"):
        tuples.world("standin_teams:one_space_for_all", {}, {})


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("pettingzoo:", {}, "'pettingzoo:' is no world; its name must be pettingzoo:package.module"),
        ("gymnasium:standin_teams", {}, "its name must be gymnasium:package.module:function"),
        ("pettingzoo:no_such_package.game", {}, "there is no module no_such_package to take a world from"),
        ("pettingzoo:standin_teams", {"reward": "max"}, "reward is 'max'; it must be one of sum, mean"),
        ("pettingzoo:standin_teams", {"state": "own"}, "state is 'own'; it must be one of auto, observations"),
        ("pettingzoo:standin_teams", {"episode_limit": 2.5}, "episode_limit is 2.5; it must be a whole number"),
        ("pettingzoo:standin_teams", {"options": "max_cycles"}, "options is 'max_cycles'; it must be a table"),
        ("pettingzoo:standin_teams", {"max_cycles": 3}, "unknown setting of pettingzoo:standin_teams 'max_cycles'"),
        ("pettingzoo:standin_teams", {"options": {"speed": 3}}, r"cannot be made with the options {'speed': 3}: .*speed"),
        ("pettingzoo:standin_teams:Steering", {}, "the actions of scout are a Box space"),
        ("petingzoo:package.module", {}, "did you mean 'pettingzoo:package.module'"),
    ],
)
def test_what_goes_wrong_is_one_line(name, settings, says):
    with pytest.raises(LimbeckError, match=says) as caught:
        registry.make(name, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lbf:Foraging-8x8-2p-2f-coop-v3", r"lbforaging is not installed; .*pip install lbforaging, or with limbeck\[lbf\]"),
        ("rware:rware-tiny-2ag-v2", r"rware is not installed; .*pip install rware, or with limbeck\[rware\]"),
        ("pettingzoo:mpe2.simple_spread_v3", r"mpe2 is not installed; .*pip install mpe2, or with limbeck\[pettingzoo\]"),
    ],
)
def test_a_missing_package_is_one_line_that_says_what_to_install(name, says, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WorldFailed, match=says):
        registry.make(name)


# -- through workers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "sizes"),
    [
        ("pettingzoo:standin_teams", {"options": {"max_cycles": 5}}, (2, 4, 4, 4, 5)),
        ("gymnasium:standin_teams:Orchard", {"reward": "mean", "negative_returns": True}, (2, 3, 3, 6, 6)),
    ],
)
def test_the_contract_is_kept(name, settings, sizes, key):
    env = registry.make(name, **settings)
    spec = env.spec
    assert spec.name == name and (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit) == sizes
    assert spec.negative_returns == settings.get("negative_returns", False)
    check_env(env, key, worlds=2)


def test_a_world_that_takes_its_process_with_it_is_replaced(tmp_path):
    env = registry.make("pettingzoo:standin_teams", options={"crash": str(tmp_path / "mark")}, timeout=20)
    nothing = np.zeros((1, 2), int)
    with Workers(env, 1) as workers:
        outcomes = [workers.step(nothing)[0] for _ in range(2 + 4)]
        assert [bool(each.info["lost"][0]) for each in outcomes] == [False, True] + [False] * 4
        assert outcomes[-1].truncated[0] and not outcomes[-1].terminated[0]
        assert workers.losses == ["world 0: its process ended (exit code 3)"]


def test_a_world_that_hangs_when_it_is_asked_is_given_up(tmp_path, monkeypatch):
    (tmp_path / "asleep.py").write_text("import time\ndef parallel_env():\n    time.sleep(100)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WorldFailed, match=r"pettingzoo:asleep does not start: it gave no answer for 0.5 s"):
        registry.make("pettingzoo:asleep", timeout=0.1)


# -- the command line ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_qmix_learns_a_world_of_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sizes = {"hidden": 16, "embed": 8, "hyper": 16, "segment": 8, "batch": 16, "buffer": 200, "eps-steps": 800, "updates": 2}
    sizes |= {"gamma": 0, "td-lambda": 0}  # every step pays for itself: a third of the steps are enough
    plan = {"steps": 2000, "worlds": 4, "devices": 1, "evaluations": 1, "evaluation-episodes": 16}
    words = [word for name, value in (sizes | plan).items() for word in (f"--{name}", str(value))]
    main(
        [
            "train",
            "qmix",
            "--env",
            "pettingzoo:standin_teams",
            "--env-set",
            'options={"leaves": 9, "ends": "world"}',
            "workers=2",
            *words,
        ]
    )
    run = tmp_path / "runs/qmix-pettingzoo-standin_teams-0"
    returns = [
        row["test_return"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "test_return" in row
    ]
    assert returns[-1] > 6.5, "eight is the most; at random it is 3.2 or so"
    main(["check", "pettingzoo:standin_teams", "--episodes", "2"])
    said = capsys.readouterr().out
    assert "pettingzoo:standin_teams: 2 agents, 4 actions, 4 obs, 4 state, 4 limit" in said and "the contract is kept" in said


def test_a_check_says_what_is_wrong_in_one_line(capsys):
    for words, says in (
        (["pettingzoo:no_such_package"], "there is no module no_such_package"),
        (["pettingzoo:standin_teams:Steering"], "the actions of scout are a Box space"),
        (["pettingzoo:standin_teams", "--episodes", "1"], "episodes is 1; it must be at least 2"),
        (["probe/leve"], "did you mean 'probe/lever'"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["check", *words])
        said = capsys.readouterr().err
        assert stop.value.code == 2 and says in said and said.count("\n") == 1


def test_the_list_shows_what_others_have_written(capsys):
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    for name, words in (
        ("lbf:Foraging-8x8-2p-2f-coop-v3", ("2", "6", "12", "50", "extra lbf", "MIT")),
        ("pettingzoo:package.module", ("extra pettingzoo",)),
        ("jaxmarl:hanabi", ("2", "21", "658", "94", "extra jaxmarl", "Apache-2.0")),
        ("smac/3m ", ("3", "9", "30", "48", "60", "Apache-2.0")),
        ("starcraft/3m ", ("game",)),
    ):
        (line,) = [line for line in lines if name in line]
        assert all(word in line for word in words), line


# -- the real ones ---------------------------------------------------------------------------------------------------------


def real(prefix, name):
    package = DOORS[prefix].needed(name)
    absent = importlib.util.find_spec(package) is None
    skip = pytest.mark.skipif(absent, reason=f"{package} is not installed; pip install 'limbeck[{DOORS[prefix].extra}]'")
    return pytest.param(prefix, name, marks=skip, id=f"{prefix}:{name}")


@pytest.mark.parametrize(
    ("prefix", "name"), [real(prefix, name) for prefix, door in DOORS.items() if prefix != "jaxmarl" for name in door.examples]
)
def test_a_real_one_has_the_sizes_that_are_listed_and_keeps_the_contract(prefix, name, key):
    env = registry.make(f"{prefix}:{name}")
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit) == DOORS[prefix].examples[name]
    check_env(env, key, worlds=2)
