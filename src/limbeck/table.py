"""What an evaluation found, as rows for JSON and as tables for a console."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table as Shown

Show = Callable[[dict[str, Any]], str]
RELATIVE = ("retention", "retention_ci", "teacher", "parameters_ratio", "flops_ratio", "memory_ratio")
"""what a row says about a policy next to its teacher"""


class Episodes(NamedTuple):
    """One value per episode, [E]. Episode i begins alike for every policy that was given the same key."""

    returns: np.ndarray
    lengths: np.ndarray
    won: np.ndarray
    lost: int = 0
    """further episodes that a host world lost, and that were played again"""


@dataclass(frozen=True)
class Table:
    """What `evaluate` found: one row per policy, ready for JSON, and every episode behind it."""

    rows: list[dict[str, Any]]
    episodes: dict[str, Episodes]

    def to_json(self) -> str:
        """`{"rows": [...]}`; what could not be estimated is null."""
        return json.dumps({"rows": self.rows}, indent=2, allow_nan=False)

    def __str__(self) -> str:
        console = Console(width=120, record=True, file=io.StringIO())
        console.print(self.rich())
        return console.export_text().rstrip()

    def rich(self, title: str | None = None) -> Shown:
        """The same for a console. A column that no row fills is left out."""
        table = self._of(_COLUMNS, title)
        nothing = [row["random_return"] for row in self.rows if row.get("random_return") is not None]
        if nothing:
            table.caption = f"kept: (return - r) / (teacher's return - r); r = {nothing[0]:.1f} is what random play returns"
        return table

    def costs(self, title: str | None = None) -> Shown:
        """What acting costs: an agent's decision, a team's memory, and latencies where they were measured."""
        return self._of(_COSTS, title)

    def _of(self, columns: dict[str, tuple[str, Show]], title: str | None) -> Shown:
        table = Shown(title=title)
        shown = {head: show for head, (name, show) in columns.items() if any(row.get(name) is not None for row in self.rows)}
        for head in shown:
            table.add_column(head, justify="left" if head == "policy" else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*(show(row) for show in shown.values()))
        return table


def _with_interval(name: str, scale: float, digits: int) -> Show:
    def show(row: dict[str, Any]) -> str:
        if row.get(name) is None:
            return "-"
        shown = digits if abs(scale * row[name]) >= 1 else digits + 2
        low, high = (f"{scale * x:.{shown}f}" if x is not None else "?" for x in row.get(f"{name}_ci") or (None, None))
        return f"{scale * row[name]:.{shown}f} [{low}, {high}]"

    return show


def _count(name: str, form: str = ",.0f") -> Show:
    return lambda row: "-" if row.get(name) is None else f"{row[name]:{form}}"


def _label(row: dict[str, Any]) -> str:
    return " ".join(dict.fromkeys(part for part in (row["name"], row["policy"]) if part))


_COLUMNS: dict[str, tuple[str, Show]] = {
    "policy": ("name", _label),
    "win %": ("win_rate", _with_interval("win_rate", 100, 0)),
    "return": ("return", _with_interval("return", 1, 1)),
    "kept %": ("retention", _with_interval("retention", 100, 0)),
    "parameters": ("parameters", _count("parameters")),
    "FLOPs": ("flops", _count("flops")),
    "times\nfewer": ("flops_ratio", _count("flops_ratio", ".1f")),
    "lost": ("lost_episodes", _count("lost_episodes")),
    "steps/s": ("steps_per_s", _count("steps_per_s")),
}
_COSTS: dict[str, tuple[str, Show]] = {
    "policy": ("name", _label),
    "parameters": ("parameters", _count("parameters")),
    "fewer": ("parameters_ratio", _count("parameters_ratio", ".1f")),
    "FLOPs": ("flops", _count("flops")),
    "fewer ": ("flops_ratio", _count("flops_ratio", ".1f")),
    "memory": ("memory", _count("memory")),
    "agent\np50, us": ("agent_p50_us", _count("agent_p50_us", ".1f")),
    "agent\np99, us": ("agent_p99_us", _count("agent_p99_us", ".1f")),
    "team\np50, us": ("team_p50_us", _count("team_p50_us", ".1f")),
    "team\np99, us": ("team_p99_us", _count("team_p99_us", ".1f")),
    "times\nfaster": ("team_latency_ratio", _count("team_latency_ratio", ".2f")),
}
