"""Latency: order, size and what is counted; and a process that is really held to one thread."""

import json
import os

import jax
import numpy as np
import pytest

from limbeck import cli, latency
from limbeck.latency import latencies, timed
from limbeck.methods import kd_marl, mappo, ptde
from limbeck.types import EnvSpec

SPEC = EnvSpec("probe/none", 3, 4, obs_dim=12, state_dim=5, episode_limit=4)


def teacher(hidden):
    algorithm = mappo.build(SPEC, mappo.MAPPOSettings(hidden=hidden))
    return algorithm.policies[algorithm.main], algorithm.init(jax.random.key(0))


def test_a_network_many_times_larger_is_slower_and_quantiles_are_in_order():
    found = latencies({"small": teacher(8), "large": teacher(512)}, SPEC, rounds=3, calls=30)
    for each in found.values():
        assert 0 < each.team.p50 <= each.team.p99
        assert each.agent and 0 < each.agent.p50 <= each.agent.p99
        assert each.each is None, "all agents share one network"
    assert found["large"].team.p50 > 1.5 * found["small"].team.p50
    assert found["large"].agent.p50 > found["small"].agent.p50


def test_every_agent_of_an_unlike_team_has_its_own():
    _, params = teacher(8)
    algorithm = kd_marl.student(SPEC, params, widths="4,4,600", gamma=0.9, gae_lambda=0.9)
    policy = algorithm.policies["student"]
    each = latencies({"s": (policy, algorithm.init(jax.random.key(0)))}, SPEC, rounds=3, calls=30)["s"]
    assert each.each and len(each.each) == 3
    assert each.each[2].p50 > each.each[0].p50, "the last is 150 times as wide"
    assert each.agent == pytest.approx(np.mean(each.each, axis=0)), "the mean over agents"


def test_who_reads_the_state_has_no_decision_of_its_own():
    algorithm = ptde.teacher(SPEC, ptde.TeacherSettings(hidden=8, latent=6, embed=4, hyper=8))
    found = latencies({"t": (algorithm.policies["greedy"], algorithm.init(jax.random.key(0)))}, SPEC, rounds=1, calls=3)["t"]
    assert found.agent is None and found.each is None and found.team.p50 > 0


def test_quantiles_are_the_median_over_rounds(monkeypatch):
    # Three rounds of two calls, after one that does not count; the second is disturbed. What a clock says before and after a call:
    lasts = [9000, 9000, 1000, 3000, 70000, 90000, 2000, 4000]
    clock = iter([at for each in lasts for at in (0, each)])
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: next(clock))
    found = timed({"a": lambda: ()}, rounds=3, calls=2)["a"]
    assert found.p50 == pytest.approx(3.0), "the medians of rounds are 2, 80 and 3 us"
    assert found.p99 == pytest.approx(3.98), "2.98, 89.8 and 3.98"


def test_runs_are_measured_on_one_thread(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    common = ["--worlds", "2", "--devices", "1", "--evaluations", "1", "--evaluation-episodes", "2"]
    cli.main(
        [
            "train",
            "mappo",
            "--env",
            "probe/matrix",
            "--steps",
            "64",
            "--segment",
            "8",
            "--chunk",
            "4",
            "--minibatches",
            "1",
            "--hidden",
            "16",
            "--out",
            "t",
            *common,
        ]
    )
    capsys.readouterr()
    cli.main(["evaluate", "t", "--episodes", "2", "--latency", "True", "--json", "rows.json"])
    assert "on one thread" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert 0 < row["agent_p50_us"] <= row["agent_p99_us"] and 0 < row["team_p50_us"] <= row["team_p99_us"]
    assert 0 < row["latency_cores"] < 1.05, "never two threads at a time"
    assert os.environ.get("NPROC") != "1", "the measuring process has an environment of its own"
