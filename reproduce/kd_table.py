"""KD-MARL's ablations: what students keep of a wide teacher, and what they need: each term left out, unlike students, less sight.

    python reproduce/kd_table.py --page docs/results.md               days on one core; runs that are there already are not repeated
    python reproduce/kd_table.py --tasks 3m --seeds 1 --shorten 100   minutes: to see it run to its end
    python reproduce/kd_table.py --records reproduce/records/kd.jsonl --no-train      the table of the page, from its records

Each run is an ordinary run folder under `runs/kd_table`. Teachers multiply in bfloat16 while they learn (`--products`). A student
and its teacher play the same greedy episodes. Students are GRUs 40 wide: on all seven tasks that is between 29 and 38 times fewer
FLOPs per decision than a teacher 256 wide (docs/results.md).
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import campaign
from mpe_table import MAPPO
from rich.console import Console

from limbeck import runs
from limbeck.errors import BadSetting, unknown
from limbeck.methods import mappo
from limbeck.methods.kd_marl import PRESETS
from limbeck.runs import RunConfig

Figures = dict[str, Any]
Found = dict[str, Figures]
Settings = dict[str, Any]
Seeded = Sequence[Figures | None]
"""in the order of seeds; None: there is none"""
WHOLE = "KD-MARL"
"""the row that has all terms, with which others are compared"""
FEWER = 28.6
"""times fewer FLOPs than the teacher's: what the paper's summary says"""


@dataclasses.dataclass(frozen=True)
class Task:
    """A world, the teacher's budget and what it is told there, and how a student sees less."""

    env: str
    steps: int
    teacher: Settings
    student: Settings
    less: Settings
    worlds: int = 32
    world: Settings = dataclasses.field(default_factory=dict)
    """what the world is told"""


BATTLE: Settings = {"chunk": 16, "lr": 1e-3, "critic_lr": 1e-3, "epochs": 5, "entropy_weight": 0.03}
CAREFUL: Settings = {**mappo.PRESETS["expert"], "epochs": 10, "clip": 0.05}
NEAR: Settings = {"sight_range": "6"}
DAMAGE: Settings = {"reward_recovery": False}
"""SMAC pays for shields that grow again as for damage; on 3s_vs_5z that is worth more than a victory (docs/results.md)"""
EPISODES: Settings = {"segment": 25, "chunk": 25}
TASKS = {
    "3m": Task("smac/3m", 1_000_000, BATTLE, {}, NEAR),
    "2s3z": Task("smac/2s3z", 500_000, mappo.PRESETS["expert"], {}, NEAR),
    "3s_vs_5z": Task("smac/3s_vs_5z", 1_500_000, CAREFUL, {}, NEAR, world=DAMAGE),
    "5m_vs_6m": Task("smac/5m_vs_6m", 1_000_000, CAREFUL, {}, NEAR),
    "simple_spread": Task("mpe/simple_spread", 2_000_000, MAPPO, EPISODES, {"drop": "10-17"}, 128),
    "simple_reference": Task("mpe/simple_reference", 2_000_000, MAPPO, EPISODES, {"drop": "0-1"}, 128),
    "simple_speaker_listener": Task("mpe/simple_speaker_listener", 2_000_000, MAPPO, EPISODES, {"drop": "/0-1"}, 128),
}
"""Less is a sight of 6 in place of 9; in simple_spread nothing of the others, in the other two no velocity of one's own."""


def only(preset: str) -> Settings:
    """What a preset changes."""
    default = dataclasses.asdict(PRESETS["reconstruction"])
    return {name: value for name, value in dataclasses.asdict(PRESETS[preset]).items() if value != default[name]}


ROWS: dict[str, Settings] = {
    WHOLE: {},
    "without advantage": {"adv_weight": 0.0},
    "without KL": {"kl_weight": 0.0},
    "without relations": {"relation_weight": 0.0},
    "without roles": {"role_weight": 0.0},
    "heterogeneous": {},
    "limited sight": {},
    "on-policy": only("on-policy"),
    "policy distillation": only("policy-only"),
    "behaviour cloning": only("cloning"),
}
"""All but `heterogeneous` have students of one width and kind; all but `limited sight` see what their teacher sees."""


@dataclasses.dataclass(frozen=True)
class Plan(campaign.Battles):
    """What the table and the curve of `kd_pareto.py` can be told."""

    out: str = "runs/kd_table"
    steps: dict[str, int] = dataclasses.field(default_factory=dict)
    """of the teachers, by task, where not as in `TASKS`: --steps 3m 500000 2s3z 1000000"""
    hidden: int = 256
    """the teachers' width"""
    products: str = "bfloat16"
    """what teachers multiply in while they learn: float32, or bfloat16, twice as fast where processors know it"""
    updates: int = 6000
    """of each student"""
    data: int = 200_000
    """decisions of one agent of the teacher that a student learns from off line"""
    records: str | None = None
    """a file of figures measured before (reproduce/records/kd.jsonl): what stands there is not run again, what is run is added"""
    train: bool = True
    """no: nothing is run, and what no record holds is left out"""


@dataclasses.dataclass(frozen=True)
class Options(Plan):
    """What the reproduction can be told."""

    tasks: tuple[str, ...] = tuple(TASKS)
    rows: tuple[str, ...] = tuple(ROWS)
    widths: str = "40"
    """the students': 40, or one for each agent"""
    unlike: tuple[str, str] = ("gru:40", "mlp:64")
    """of heterogeneous students: kind and width of one agent, and of the next, in turns"""


def main(options: Options) -> None:
    console = Console()
    for kind, given, known in (("task", options.tasks, TASKS), ("task", tuple(options.steps), TASKS), ("row", options.rows, ROWS)):
        for name in given:
            if name not in known:
                raise unknown(kind, name, known)
    lines = []
    for name in options.tasks:
        teachers, found = [], {row: [] for row in options.rows}
        for seed in options.every_seed:
            teachers.append(teacher(name, seed, options, console))
            for row, students in found.items():
                students.append(student(name, row, seed, options, console))
        lines += table(name, teachers, found)
    head = ["task", "team", "wins, %, or return", "kept, %", f"points more than `{WHOLE}`", "FLOPs per decision", "times fewer"]
    campaign.write(options.page, campaign.markdown(head, lines), "kd", console)


# -- what is run -----------------------------------------------------------------------------------------------------------


def teacher(name: str, seed: int, options: Plan, console: Console) -> Figures | None:
    """One of them, judged."""
    path = teacher_path(name, seed, options)
    found = measured(path, options, lambda: {"teacher": trained(name, seed, options, console)})
    return found and found["teacher"]


def trained(name: str, seed: int, options: Plan, console: Console) -> Figures:
    """Its run is there afterwards, for students to learn from."""
    config, path = teacher_config(name, seed, options), teacher_path(name, seed, options)
    return campaign.played(config, path, episodes(options), console) | {"products": options.products}


def student(name: str, row: str, seed: int, options: Options, console: Console) -> Figures | None:
    """One of that teacher's, judged in the same episodes as it."""
    above = teacher_path(name, seed, options)
    path = student_path(above, row, options)

    def measure() -> Found:
        trained(name, seed, options, console)
        config = runs.of_student(above, settings=student_settings(name, row, options), **told(name, seed))
        return campaign.judged(config, path, episodes(options), console)

    found = measured(path, options, measure)
    return found and found["student"]


def measured(path: Path, options: Plan, measure: Callable[[], Found]) -> Found | None:
    """A run's figures, measured now unless they are on record. None: not on record, and not to be run."""
    records = campaign.Records(options.records)
    if path.name not in records.found and options.train:
        records.add(path.name, measure())
    return records.found.get(path.name)


def there(seeds: Seeded) -> list[Figures]:
    """Those that were measured."""
    return [each for each in seeds if each is not None]


def episodes(options: Plan) -> int:
    """Greedy ones of each policy."""
    return max(options.episodes // options.shorten, 16)


def told(name: str, seed: int) -> dict[str, Any]:
    """What all runs of a task are told."""
    often = {"evaluations": 2, "evaluation_episodes": 64, "checkpoint_seconds": 600.0}
    return {"seed": seed, "worlds": TASKS[name].worlds} | often


def steps(name: str, options: Plan) -> int:
    """The teacher's budget."""
    return max(options.steps.get(name, TASKS[name].steps) // options.shorten, 1)


def updates(options: Plan) -> int:
    """A student's budget."""
    return max(options.updates // options.shorten, 1)


def teacher_path(name: str, seed: int, options: Plan) -> Path:
    """Where a teacher is kept: the name holds what distinguishes it."""
    return Path(options.out) / f"mappo{options.hidden}-{name}-{steps(name, options)}-{seed}"


def teacher_config(name: str, seed: int, options: Plan) -> RunConfig:
    """limbeck's MAPPO, of the width asked for."""
    settings = TASKS[name].teacher | {"hidden": options.hidden, "products": options.products}
    return RunConfig("mappo", TASKS[name].env, TASKS[name].world, settings=settings, steps=steps(name, options), **told(name, seed))


def student_path(teacher: Path, row: str, options: Options) -> Path:
    """Where a student is kept."""
    team = "+".join(options.unlike) if row == "heterogeneous" else f"gru:{options.widths}"
    kind = team.replace(":", "").replace(",", "_")
    return teacher.with_name(f"{teacher.name}-{row.replace(' ', '_')}-{kind}-{data(options)}-{updates(options)}")


def data(options: Plan) -> int:
    """Decisions recorded off line; a short trial still needs some to hold out."""
    return max(options.data // options.shorten, 4000)


def student_settings(name: str, row: str, options: Options) -> Settings:
    """What a row's students are told."""
    task, n_agents = TASKS[name], runs.make_env(RunConfig("mappo", TASKS[name].env)).spec.n_agents
    settings = {"widths": options.widths, "rows": data(options), "updates": updates(options)} | task.student | ROWS[row]
    if row == "heterogeneous":
        settings |= unlike(options.unlike, n_agents)
    return settings | (task.less if row == "limited sight" else {})


def unlike(kinds: Sequence[str], n_agents: int) -> Settings:
    """`gru:40`, `mlp:64` -> kinds and widths of so many agents in turns.

    Raises:
        BadSetting: not a kind and a width.
    """
    pairs = [each.partition(":")[::2] for each in kinds]
    if not all(kind and width for kind, width in pairs):
        raise BadSetting(f"unlike students are given as gru:40 mlp:64, not {' '.join(kinds)}")
    turns = [pairs[i % len(pairs)] for i in range(n_agents)]
    return {"kinds": ",".join(kind for kind, _ in turns), "widths": ",".join(width for _, width in turns)}


# -- what is shown ---------------------------------------------------------------------------------------------------------


def table(name: str, teachers: Seeded, found: dict[str, Seeded]) -> list[list[str]]:
    """A line for the teacher and one for every row that has a seed."""
    frozen = there(teachers)
    if not frozen:
        return []
    lines = [[f"`{name}`", label(teachers), score(frozen), "100", "", f"{frozen[0]['flops']:,.0f}", "1"]]
    for row, seeds in found.items():
        students = there(seeds)
        if not students:
            continue
        kept = [100 * each["retention"] for each in students if each["retention"] is not None]
        fewer = students[0]["flops_ratio"]
        lines.append([
            f"`{name}`",
            row,
            score(students),
            campaign.cell(kept) if len(kept) == len(students) else "-",
            "" if row == WHOLE else against(seeds, found.get(WHOLE, ())),
            f"{students[0]['flops']:,.0f}",
            f"{fewer:.1f}" if fewer >= FEWER else f"{fewer:.1f} (fewer than {FEWER})",
        ])  # fmt: skip
    return lines


def label(teachers: Seeded) -> str:
    """The teachers' row, and how many of them multiplied in bfloat16."""
    products = [each["products"] for each in there(teachers)]
    coarse = products.count("bfloat16")
    return f"teacher ({coarse} of {len(products)} in bfloat16)" if coarse else "teacher"


def against(seeds: Seeded, whole: Seeded) -> str:
    """What is kept more than with all terms, in points of a hundred: seed by seed, of one teacher each."""
    pairs = [(one["retention"], other["retention"]) for one, other in zip(seeds, whole, strict=False) if one and other]
    if not pairs or any(None in pair for pair in pairs):
        return "-"
    return campaign.cell([100 * (one - other) for one, other in pairs], 1)


def score(seeds: Sequence[Figures]) -> str:
    """Wins in percent, or returns where a world has no victories."""
    if seeds[0]["win_rate"] is None:
        return campaign.cell([each["return"] for each in seeds], 1)
    return campaign.cell([100 * each["win_rate"] for each in seeds])


if __name__ == "__main__":
    campaign.start(main, Options)
