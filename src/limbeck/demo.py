"""The main job in one go: a baseline, two teachers and a student on one battle, compared, drawn and filmed."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree
from rich.console import Console

from limbeck import runs
from limbeck.envs.smac.render import Film, render_gif, render_html
from limbeck.envs.smac.world import Smac
from limbeck.errors import BadSetting, RunExists
from limbeck.evaluate import evaluate
from limbeck.play import record
from limbeck.plots import learning_curves
from limbeck.progress import live
from limbeck.runs import RunConfig
from limbeck.table import RELATIVE, Table
from limbeck.train import Trained
from limbeck.types import Policy
from limbeck.watch import outcome_of

LABELS = {
    "baseline": "QMIX baseline",
    "giu": "teacher, unified (GIU)",
    "teacher": "teacher (PTDE)",
    "student": "student (PTDE)",
}


@dataclass(frozen=True)
class DemoOptions:
    """What the demo can be told. The defaults were chosen by measurement: docs/decisions/0004."""

    env: str = "smac/3m"
    """the battle"""
    sight_range: float = 2.0
    """how far an agent sees; 9 is SMAC's own"""
    steps: int = 200_000
    """environment steps for each of the three that learn by playing"""
    student_updates: int = 10_000
    """gradient steps of the student"""
    student_rows: int = 600_000
    """decisions of the teacher that the student learns from"""
    worlds: int = 16
    """copies of the battle in parallel"""
    episodes: int = 512
    """greedy episodes at each evaluation, and for each row of the table"""
    seed: int = 0
    """of everything random"""
    out: str = "runs/demo"
    """folder; if it is taken, a number is added"""


def run(options: DemoOptions, console: Console) -> Table:
    """The demo, from nothing to the table.

    Raises:
        BadSetting, UnknownName: impossible options.
    """
    begun = time.monotonic()
    if not options.env.startswith("smac/"):
        raise BadSetting(f"the demo films a battle: take one of the smac/ worlds, not {options.env}")
    out = _free(Path(options.out))
    configs = {
        "baseline": _config("qmix", options),
        "giu": _config("ptde", options, personaliser="giu"),
        "teacher": _config("ptde", options),
    }
    runs.resolve(configs["teacher"])  # what is impossible is refused before anything is written
    console.print(f"{options.env}, sight range {options.sight_range:g}, {options.steps:,} steps each, in {out}", highlight=False)
    for name, config in configs.items():
        _go(name, config, out, console)
    teacher = configs["teacher"]
    _go("student", _student_config(out / "teacher", options), out, console)

    loaded = {name: runs.load(out / name) for name in (*configs, "student")}
    policies = {name: each.policy() for name, each in loaded.items()}
    env = runs.make_env(teacher)
    with console.status(f"{options.episodes} greedy episodes of each"):
        table = evaluate(env, policies, options.episodes, jax.random.key(options.seed + 7), teacher="teacher")
    rows = {name: each.folder.metrics() for name, each in loaded.items()}
    table = _speeds(table, rows)
    files = _leave(out, options, env, policies, rows, table)
    console.print(table.rich(f"{options.env}, sight range {options.sight_range:g}: greedy episodes, 95 % intervals"))
    for what, path in files.items():
        console.print(f"{what:<16} {path}", highlight=False, soft_wrap=True)
    console.print(f"{time.monotonic() - begun:.0f} s in all", highlight=False)
    return table


def _config(method: str, options: DemoOptions, **settings: Any) -> RunConfig:
    return RunConfig(
        method=method,
        env=options.env,
        env_settings={"sight_range": options.sight_range},
        settings=settings,
        steps=options.steps,
        seed=options.seed,
        worlds=options.worlds,
        evaluations=8,
        evaluation_episodes=options.episodes,
    )


def _student_config(teacher: Path, options: DemoOptions) -> RunConfig:
    return runs.of_student(
        teacher,
        settings={"updates": options.student_updates, "rows": options.student_rows},
        seed=options.seed,
        worlds=options.worlds,
        evaluations=1,
        evaluation_episodes=options.episodes,
    )


def _go(name: str, config: RunConfig, out: Path, console: Console) -> Trained:
    with live(name, console) as watch:
        return runs.start(config, out / name, watch)


def _free(path: Path) -> Path:
    """The path, or the same with the first number that is free."""
    for i in range(1, 1000):
        candidate = path if i == 1 else path.with_name(f"{path.name}-{i}")
        if not candidate.exists():
            return candidate
    raise RunExists(f"{path} and 998 folders after it are taken; choose another with --out")


def _speeds(table: Table, rows: dict[str, list[dict[str, Any]]]) -> Table:
    """The table with the pace of each one's training; the student's is that of the play it was recorded from."""
    labelled = []
    for row in table.rows:
        paces = sorted(each["steps_per_s"] for each in rows[row["policy"]] if "steps_per_s" in each)
        label = LABELS[row["policy"]]
        # The others are nobody's students.
        kept = {} if row["policy"] in ("teacher", "student") else dict.fromkeys(name for name in row if name in RELATIVE)
        labelled.append(row | kept | {"name": label, "policy": label, "steps_per_s": paces[len(paces) // 2]})
    return Table(labelled, table.episodes)


def _leave(
    out: Path,
    options: DemoOptions,
    env: Any,
    policies: dict[str, tuple[Policy, PyTree]],
    rows: dict[str, list[dict[str, Any]]],
    table: Table,
) -> dict[str, Path]:
    """Everything that a person may want to look at afterwards."""
    (out / "table.json").write_text(table.to_json() + "\n")
    curves = {LABELS[name]: [rows[name]] for name in ("baseline", "giu", "teacher")}
    levels = {LABELS["student"]: table.rows[-1]["win_rate"]}
    title = f"{options.env}, sight range {options.sight_range:g}"
    learning_curves(curves, out / "curves.png", "test_win_rate", levels=levels, title=title)
    assert isinstance(env, Smac)
    films = {}
    for name in ("baseline", "student"):
        recorded = record(env, *policies[name], jax.random.key(options.seed + 7), env.snapshot)
        films[LABELS[name]] = Film(env, recorded.moments, recorded.rewards, outcome_of(recorded))
    render_gif(films, out / "battle.gif", title)
    render_html(films, out / "battle.html", title)
    return {
        "run folders": out,
        "table": out / "table.json",
        "learning curves": out / "curves.png",
        "battle": out / "battle.html",
        "battle (GIF)": out / "battle.gif",
    }
