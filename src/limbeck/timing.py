"""Latencies of runs, measured in a process of its own that is held to one core and one thread from its start on."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from limbeck.cost import ratio
from limbeck.errors import LimbeckError
from limbeck.table import Table

_START = """
import os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
from limbeck.timing import child
child(sys.argv[1:])
"""
_ONE_THREAD = {
    "NPROC": "1",  # the size of XLA's pool, where affinity cannot be set
    "JAX_NUM_CPU_DEVICES": "1",
    "JAX_PLATFORMS": "cpu",
    "JAX_CPU_ENABLE_ASYNC_DISPATCH": "0",
}


def with_latency(table: Table) -> Table:
    """An evaluation's rows of runs, each with its latencies in microseconds, and how many times longer its teacher takes.

    Raises:
        LimbeckError: they could not be measured.
    """
    names = [_name(row) for row in table.rows]
    found = measured(names)
    rows = []
    for name, row in zip(names, table.rows, strict=True):
        own, teacher = found[name], found.get(row.get("teacher", ""))
        row = row | {f"{who}_{q}_us": own[who] and own[who][q] for who in ("agent", "team") for q in ("p50", "p99")}
        row |= {"latency_cores": own["cores"]}
        if teacher is not None:
            faster = {who: ratio((teacher[who] or {}).get("p50"), (own[who] or {}).get("p50")) for who in ("agent", "team")}
            row |= {f"{who}_latency_ratio": value for who, value in faster.items()}
        rows.append(row)
    return dataclasses.replace(table, rows=rows)


def measured(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By `RUN:POLICY`, the latencies of `limbeck.latency`, and `cores`: how many were busy on average while they were measured.

    Raises:
        LimbeckError: the process that measures failed.
    """
    env = {**{k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PJRT_NPROC")}, **_ONE_THREAD}
    ran = subprocess.run([sys.executable, "-c", _START, *names], env=env, capture_output=True, text=True, check=False)
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or ["nothing was said"]
        raise LimbeckError(f"latency could not be measured: {said[-1]}")
    return json.loads(ran.stdout.splitlines()[-1])


def child(names: Sequence[str]) -> None:
    """What the process does: it loads the runs, and prints what it measures as JSON."""
    import time

    from limbeck import runs
    from limbeck.latency import latencies

    loaded = {path: runs.load(path) for path in dict.fromkeys(name.rpartition(":")[0] for name in names)}
    policies = {}
    for name in names:
        path, _, policy = name.rpartition(":")
        policies[name] = loaded[path].algorithm.policies[policy], loaded[path].params
    spec = runs.make_env(next(iter(loaded.values())).config).spec
    wall, busy = time.perf_counter(), time.process_time()
    found = latencies(policies, spec)
    cores = (time.process_time() - busy) / (time.perf_counter() - wall)
    document = {
        name: {
            "team": each.team._asdict(),
            "agent": each.agent and each.agent._asdict(),
            "each": each.each and [one._asdict() for one in each.each],
            "cores": cores,
        }
        for name, each in found.items()
    }
    print(json.dumps(document))


def _name(row: dict[str, Any]) -> str:
    return f"{row['name']}:{row['policy']}"
