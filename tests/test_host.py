"""Worlds in worker processes: what they show, what becomes of those that crash or hang, and that nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import standin_smac

from limbeck.envs import registry
from limbeck.envs.check import ContractBroken, check_env
from limbeck.envs.host import HostEnv
from limbeck.envs.workers import PATIENCE, Workers
from limbeck.errors import BadSetting, WorldFailed
from limbeck.types import EnvSpec

SPEC = EnvSpec("mine/counter", n_agents=2, n_actions=2, obs_dim=3, state_dim=2, episode_limit=3, has_win=True)


def counter(per_process=1, **changes):
    return HostEnv(SPEC, "standin_counter:Counter", changes, timeout=20, per_process=per_process)


def signals(kind="Signals", **settings):
    return registry.make("starcraft/2m_vs_1z", game=f"standin_smac:{kind}", **settings)


def right(workers):
    """Everybody follows the cue."""
    seen = workers.observe()
    return np.where(seen.alive, np.where(seen.obs[..., 4] > 0, 2, 3), 0)


def wait_until(holds, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# -- the rules of play -----------------------------------------------------------------------------------------------------


def test_worlds_step_together_and_go_on_with_new_episodes():
    with Workers(counter(), 2, seed=5) as workers:
        first = workers.observe()
        assert first.obs.shape == (2, 2, 3) and first.avail_actions.dtype == bool and (first.state[:, 0] == 0).all()
        ends = []
        for _ in range(3 * 3 + 2):
            outcome, seen = workers.step(np.array([[1, 0], [1, 1]]))
            assert (outcome.reward == [1, 2]).all() and not outcome.info["lost"].any()
            ends.append((bool(outcome.terminated[0]), bool(outcome.truncated[0]), int(seen.obs[0, 0, 0]), int(seen.state[0, 0])))
    go, over = (False, False), (True, False)
    play = [
        (*go, 1, 0),
        (*go, 2, 0),
        (*over, 0, 1),
        (*go, 1, 1),
        (*go, 2, 1),
        (*over, 0, 2),
        (*go, 1, 2),
        (*go, 2, 2),
        (*over, 0, 3),
    ]
    assert ends == [*play, (*go, 1, 3), (False, True, 0, 4)]


def test_every_episode_has_its_own_seed_and_the_same_in_every_run():
    def seeds(seed):
        with Workers(counter(), 2, seed) as workers:
            found = [workers.observe().state[:, 1]]
            for _ in range(3):
                found.append(workers.step(np.zeros((2, 2), int))[1].state[:, 1])
        return np.array([found[0], found[3]])

    once, again, other = seeds(1), seeds(1), seeds(2)
    assert (once == again).all() and not (once == other).any() and len(set(once.ravel())) == 4


@pytest.mark.parametrize("per_process", [2, 3])
def test_worlds_of_one_process_are_those_of_many(per_process):
    def played(per_process):
        with Workers(counter(per_process=per_process), 3, seed=5) as workers:
            seen = [workers.observe(), *(workers.step(np.array([[1, 0], [1, 1], [0, k == 4]]))[1] for k in range(7))]
            return seen, len(set(workers.pids))

    (apart, three), (together, fewer) = played(1), played(per_process)
    assert (three, fewer) == (3, -(-3 // per_process))
    for one, other in zip(jax.tree.leaves(apart), jax.tree.leaves(together), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_host_world_keeps_the_contract(key):
    check_env(counter(), key)
    check_env(signals(), key, worlds=2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"avail": [[False, False], [True, True]]}, "an agent has no available action"),
        ({"alive": [False, True]}, "a dead agent has a choice"),
        ({"obs": [[0.0] * 3, [float("inf")] * 3]}, "obs is not finite"),
    ],
)
def test_a_broken_contract_is_noticed(changes, says, key):
    with pytest.raises(ContractBroken, match=says):
        check_env(counter(**changes), key, worlds=2)


def test_an_array_of_the_wrong_shape_is_named():
    with pytest.raises(WorldFailed, match=r"mine/counter does not start: ValueError: state has shape \[1\].* must be \[2\]"):
        Workers(counter(state=[1.0]), 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout": 0}, "timeout is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"parts": 0}, "parts is 0"),
        ({"per_process": 0}, "per_process is 0"),
        ({"factory": "x"}, "not 'x'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(options, says):
    with pytest.raises(BadSetting, match=says):
        HostEnv(SPEC, **{"factory": "a:b", **options})


# -- losses ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "why"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSTOP, "it gave no answer for 1 s")])
def test_a_crashed_or_hung_worker_is_replaced_and_its_episode_truncated(number, why):
    with Workers(signals(timeout=1), 3) as workers:
        workers.step(right(workers))
        before = workers.pids
        os.kill(before[1], number)
        outcome, seen = workers.step(right(workers))
        assert outcome.truncated.tolist() == outcome.info["lost"].tolist() == [False, True, False]
        assert not outcome.terminated.any() and outcome.reward.tolist() == [1, 0, 1]
        assert np.rint(seen.state[:, 0] * 100).tolist() == [2, 0, 2], "the others went on, the lost one begins anew"
        assert len(workers.losses) == 1 and why in workers.losses[0] and workers.losses[0].startswith("world 1: ")
        assert [a == b for a, b in zip(before, workers.pids, strict=True)] == [True, False, True] and not alive(before[1])
        for _ in range(standin_smac.LENGTH):
            outcome, _ = workers.step(right(workers))
            assert not outcome.info["lost"].any()
        assert outcome.terminated[1] and outcome.info["won"][1]


def test_a_worker_that_dies_between_two_steps_is_replaced():
    with Workers(counter(), 2) as workers:
        os.kill(workers.pids[0], signal.SIGKILL)
        wait_until(lambda: not alive(workers.pids[0]))
        outcome, _ = workers.step(np.zeros((2, 2), int))
        assert outcome.info["lost"].tolist() == [True, False]


def test_a_worker_that_dies_after_its_answer_does_not_hide_one_that_hangs():
    with Workers(signals(timeout=1), 2) as workers:
        first, second = workers.pids
        os.kill(second, signal.SIGSTOP)
        workers.send(right(workers))
        time.sleep(0.3)
        os.kill(first, signal.SIGKILL)
        assert workers.receive()[0].info["lost"].tolist() == [False, True]
        assert workers.step(right(workers))[0].info["lost"].tolist() == [True, False]


def test_nobody_waits_for_a_part_that_hangs_and_its_time_runs_from_when_it_was_sent():
    one, other = slice(0, 1), slice(1, 3)
    with Workers(signals(timeout=2), 3) as workers:
        os.kill(workers.pids[0], signal.SIGSTOP)
        begun, action = time.monotonic(), right(workers)
        workers.send(action[one], one)
        for expected in (1, 2):
            workers.send(action[other], other)
            assert workers.first([one, other]) == 1
            outcome, seen = workers.receive(other)
            assert outcome.reward.tolist() == [1, 1]
            assert np.rint(seen.state[:, 0] * 100).tolist() == [expected] * 2 and not outcome.info["lost"].any()
            action = right(workers)
        assert time.monotonic() - begun < 1.5 and workers.first([one]) == 0, "its time is over"
        assert workers.receive(one)[0].info["lost"].tolist() == [True] and time.monotonic() - begun < 5


def test_a_lost_process_takes_all_its_worlds_with_it_also_those_that_wait_for_an_action():
    early, late, others = slice(0, 1), slice(1, 2), slice(2, 4)
    with Workers(signals(timeout=2, per_process=2), 4) as workers:
        workers.step(right(workers))
        before = workers.pids
        assert before[0] == before[1] != before[2] == before[3]
        os.kill(before[0], signal.SIGKILL)
        action = right(workers)
        workers.send(action[early], early)
        assert workers.receive(early)[0].info["lost"].tolist() == [True]
        workers.send(action[late], late)  # of an episode that nobody knows any more
        workers.send(action[others], others)
        outcome, seen = workers.receive(late)
        assert outcome.info["lost"].tolist() == outcome.truncated.tolist() == [True] and outcome.reward.tolist() == [0]
        assert np.rint(seen.state[:, 0] * 100).tolist() == [0], "a first decision"
        assert workers.receive(others)[0].reward.tolist() == [1, 1]
        assert np.rint(workers.observe().state[:, 0] * 100).tolist() == [0, 0, 2, 2] and workers.pids[2:] == before[2:]
        for _ in range(standin_smac.LENGTH):
            outcome, _ = workers.step(right(workers))
            assert not outcome.info["lost"].any()
        assert len(workers.losses) == 2


def test_orders_to_one_process_are_carried_out_in_turn_and_each_has_its_time():
    one, other = slice(0, 1), slice(1, 2)
    with Workers(signals(timeout=1, per_process=2), 2) as workers:
        action = right(workers)
        os.kill(workers.pids[0], signal.SIGSTOP)
        workers.send(action[other], other)
        workers.send(action[one], one)
        time.sleep(0.7)
        os.kill(workers.pids[0], signal.SIGCONT)
        assert workers.first([one, other]) in (0, 1) and workers.receive(other)[0].reward.tolist() == [1]
        assert workers.receive(one)[0].reward.tolist() == [1] and not workers.losses
        os.kill(workers.pids[0], signal.SIGSTOP)
        assert workers.step(right(workers))[0].info["lost"].tolist() == [True, True]
        assert [why.partition(": ")[2] for why in workers.losses] == ["it gave no answer for 2 s"] * 2, "a second for each world"


def test_a_world_that_says_itself_that_it_failed_is_counted_and_goes_on():
    with Workers(signals("Wobbly"), 1) as workers:
        pids = workers.pids
        outcomes = [workers.step(right(workers))[0] for _ in range(3 + standin_smac.LENGTH)]
        assert [bool(o.info["lost"][0]) for o in outcomes] == [False, False, True] + [False] * standin_smac.LENGTH
        assert outcomes[2].truncated[0] and not outcomes[2].terminated[0] and outcomes[-1].terminated[0]
        assert workers.pids == pids and len(workers.losses) == 1


def test_who_fails_again_and_again_is_given_up_with_the_reason():
    says = rf"starcraft/2m_vs_1z: world 0 was lost {PATIENCE} times in a row.*RuntimeError: the battle is off"
    with Workers(signals("Failing"), 1) as workers, pytest.raises(WorldFailed, match=says):
        for _ in range(20):
            workers.step(right(workers))


def test_the_last_words_of_a_process_are_kept(tmp_path, monkeypatch):
    (tmp_path / "mute_world.py").write_text("import os, sys\ndef build():\n    os.write(2, b'out of disk\\n')\n    os._exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WorldFailed, match=r"does not start: its process ended \(exit code 3\): out of disk"):
        Workers(HostEnv(SPEC, "mute_world:build"), 1)


# -- nothing is left behind ------------------------------------------------------------------------------------------------


def helper_of(workers):
    return round(float(workers.observe().state[0, -1]))


def test_closing_ends_the_processes_and_what_they_started():
    workers = Workers(signals("WithHelper"), 1)
    pids = [*workers.pids, helper_of(workers)]
    assert all(map(alive, pids))
    workers.close()
    assert not any(map(alive, pids))
    workers.close()  # twice does no harm


def test_the_helper_of_a_killed_worker_goes_with_it():
    with Workers(signals("WithHelper"), 1) as workers:
        pid, helper = workers.pids[0], helper_of(workers)
        os.kill(pid, signal.SIGKILL)
        workers.step(np.ones((1, 2), int))
        wait_until(lambda: not alive(helper))
        assert alive(helper_of(workers))


def test_workers_end_when_their_parent_is_killed():
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from test_host import Workers, helper_of, signals\n"
        "workers = Workers(signals('WithHelper'), 1)\n"
        "print(workers.pids[0], helper_of(workers), flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(map(alive, pids))
        parent.kill()
    wait_until(lambda: not any(map(alive, pids)))


def test_a_worker_does_not_load_jax(tmp_path, monkeypatch):
    (tmp_path / "nosy_world.py").write_text(
        "import sys\nfrom limbeck.envs.starcraft import game\ndef build():\n    raise RuntimeError(f\"{'jax' in sys.modules}\")\n"
    )
    (tmp_path / "heavy_world.py").write_text("import limbeck as lb\ndef build():\n    raise RuntimeError(lb.make.__name__)\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module, says in (("nosy_world", "RuntimeError: False"), ("heavy_world", "RuntimeError: make")):
        with pytest.raises(WorldFailed, match=says):
            Workers(HostEnv(SPEC, f"{module}:build"), 1)


def test_a_host_world_from_outside_registers_like_any_other(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    registry.register("mine/counter", lambda pace=1: counter())
    assert registry.make("mine/counter", pace=2).spec == SPEC and "mine/counter" in registry.names()
