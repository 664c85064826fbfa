"""Latency: order, size and what is counted; and a process that is really held to one thread."""

import dataclasses
import json
import os
from typing import Any

import jax
import numpy as np
import pytest
from cases import gated

from limbeck import cli, latency
from limbeck.latency import latencies, timed
from limbeck.methods import copa, kd_marl, mappo, ptde
from limbeck.nets.unroll import decide
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


@pytest.mark.parametrize("personaliser", gated(ptde.PERSONALISERS, "gip"))
def test_one_agent_of_ptde_decides_alone_as_it_does_among_the_others(personaliser):
    spec = dataclasses.replace(SPEC, state_dim=6, state_slots=((0, 2), (2, 4), (4, 6)))
    sizes: dict[str, Any] = {"hidden": 8, "latent": 8, "personaliser": personaliser}
    drawn = ptde.teacher(spec, ptde.TeacherSettings(embed=4, hyper=8, **sizes))
    teacher = ptde.teacher_on_mappo(spec, ptde.MAPPOTeacherSettings(**sizes))
    trained = jax.jit(teacher.init)(jax.random.key(0))
    student = ptde.student(spec, trained)
    same = {
        "teacher": (teacher.policies["greedy"], trained),
        "student": (student.policies["student"], jax.jit(student.init)(jax.random.key(1))),
    }
    pairs = {"drawn": (drawn.policies["greedy"], jax.jit(drawn.init)(jax.random.key(0))), "student": same["student"]}
    found = latencies(pairs, spec, rounds=1, calls=3)
    assert all(each.agent and each.each is None for each in found.values()), "of one, and all share one network"
    key, hidden = jax.random.key(0), jax.random.normal(jax.random.key(2), (1, 3, 8))
    for policy, params in same.values():
        agent, decision = policy.agent(params), latency.example(policy, spec)
        q, after = decide(agent, hidden, decision, key)
        for i in range(3):
            drive, extra = agent.encode_one(decision, i, key)
            alone = agent.step(drive, hidden[:, i : i + 1])
            np.testing.assert_allclose(alone, after[:, i : i + 1], atol=1e-6)
            np.testing.assert_allclose(agent.head(alone, extra), q[:, i : i + 1], atol=1e-6)


def test_who_does_not_act_without_the_others_has_no_latency_of_one():
    spec = dataclasses.replace(SPEC, state_dim=6, state_slots=((0, 2), (2, 4), (4, 6)))
    algorithm = copa.build(spec, copa.COPASettings(hidden=8, latent=8, embed=4, hyper=8))
    params = jax.jit(algorithm.init)(jax.random.key(0))
    found = latencies({"t": (algorithm.policies["greedy"], params)}, spec, rounds=1, calls=3)["t"]
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
