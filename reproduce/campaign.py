"""What the tables of this folder share: runs that are not repeated, and cells with intervals."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import jax
import tyro
from rich.console import Console

from limbeck import runs, stats
from limbeck.cli import prepare_devices
from limbeck.errors import BadSetting, in_one_line
from limbeck.evaluate import evaluate
from limbeck.plots import Panel
from limbeck.progress import live
from limbeck.runs import RunConfig
from limbeck.store import RunFolder


@dataclasses.dataclass(frozen=True)
class Seeds:
    """What tables over seeds can be told."""

    seeds: int = 3
    first_seed: int = 0
    """of `seeds` in a row: several programs may each make some, and one that is told all then finds their runs"""
    page: str | None = None
    """a page (docs/results.md) between whose markers the table goes; None: print it only"""

    @property
    def every_seed(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclasses.dataclass(frozen=True)
class Plan(Seeds):
    """What most tables can be told."""

    episodes: int = 512
    """greedy ones of each seed, at the end"""


@dataclasses.dataclass(frozen=True)
class Battles(Plan):
    """What most tables of battles can be told."""

    shorten: int = 1
    """divides every budget, for a trial"""


def played(config: RunConfig, path: Path, episodes: int, console: Console) -> dict[str, Any]:
    """A run and its evaluation in greedy episodes, unless they are there. A run that was cut off is continued.

    Raises:
        BadSetting: what is there is a run of something else.
    """
    _check_same(config, path)
    kept = path / "evaluation.json"
    if not kept.exists():
        kept.write_text(json.dumps(next(iter(_evaluated(config, path, episodes, console, every=False).values()))))
    return json.loads(kept.read_text())


def judged(config: RunConfig, path: Path, episodes: int, console: Console) -> dict[str, dict[str, Any]]:
    """The same for all policies of a run, by name: a student and its teacher."""
    _check_same(config, path)
    kept = path / "policies.json"
    if not kept.exists():
        kept.write_text(json.dumps(_evaluated(config, path, episodes, console, every=True)))
    return json.loads(kept.read_text())


def _check_same(config: RunConfig, path: Path) -> None:
    """Names of folders do not hold every setting; a run is not taken for one that was told otherwise."""
    if not (path / "config.json").exists():
        return
    asked, there = (_settings(each) for each in (config, runs.read_config(path / "config.json")))
    for name, value in asked.items():
        if there.get(name) != value:
            raise BadSetting(f"{path} is there with {name}={there.get(name)}, not {value}: give another --out, or move it away")


def _settings(config: RunConfig) -> dict[str, Any]:
    """All that a run was told of what it learns, by name; as JSON gives it back, where tuples are lists."""
    own = {name: getattr(config, name) for name in ("method", "env", "steps", "seed", "worlds")}
    return json.loads(json.dumps(own | config.env_settings | config.settings))


def _evaluated(config: RunConfig, path: Path, episodes: int, console: Console, every: bool) -> dict[str, dict[str, Any]]:
    if not (path / "params.safetensors").exists():
        with live(path.name, console) as watch:
            if path.exists():
                runs.resume(path, watch)
            else:
                runs.start(config, path, watch)
    run = runs.load(path)
    names = list(run.algorithm.policies) if every else [run.algorithm.main]
    policies: Any = {name: (run.algorithm.policies[name], run.params) for name in names}
    table = evaluate(runs.make_env(run.config), policies, episodes, jax.random.key(1000 + run.config.seed))
    seconds = run.folder.metrics()[-1]["seconds"]
    return {name: row | {"seconds": seconds} for name, row in zip(names, table.rows, strict=True)}


FIGURES = ("win_rate", "return", "retention", "flops", "flops_ratio", "parameters", "products")


class Records:
    """Figures measured before, on whatever machine: lines of JSON, `{"run": the folder's name, "policies": {name: figures}}`.

    A table of many days is made of many sittings; folders of runs do not outlive them all.
    """

    def __init__(self, path: str | None):
        self.path = Path(path) if path else None
        lines = self.path.read_text().splitlines() if self.path and self.path.exists() else []
        self.found: dict[str, dict[str, dict[str, Any]]] = {line["run"]: line["policies"] for line in map(json.loads, lines)}

    def add(self, run: str, policies: dict[str, dict[str, Any]]) -> None:
        """Kept at once, so that nothing is lost when the next run is cut off."""
        self.found[run] = {name: {key: row[key] for key in FIGURES if key in row} for name, row in policies.items()}
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps({"run": run, "policies": self.found[run]}) + "\n")


def metrics(path: Path) -> list[dict[str, Any]]:
    """What a run wrote down while it learned."""
    return RunFolder.open(path).metrics()


def panels(curves: Mapping[str, dict[str, list]], *names: str) -> list[list[Panel]]:
    """A row for each of these metrics, with a panel for every title; `curves` has what `metrics` returns, by title and label."""
    return [
        [Panel(each, name, title=title if row == 0 else "") for title, each in curves.items()] for row, name in enumerate(names)
    ]


def cell(values: Sequence[float], digits: int = 0) -> str:
    """Mean over seeds, its 95 % interval, and each seed; of one seed, the number."""
    if len(values) == 1:
        return f"{values[0]:.1f} (one seed)"
    mean = stats.mean_ci(list(values))
    each = ", ".join(f"{value:.{digits}f}" for value in values)
    return f"{mean.value:.1f} [{mean.low:.{digits}f}, {mean.high:.{digits}f}] ({each})"


def kept(students: Sequence[dict[str, Any]], teachers: Sequence[dict[str, Any]]) -> float | None:
    """The students' victories over all seeds, as a share of their teachers'. None: their teachers never won."""
    won = sum(each["win_rate"] for each in teachers)
    return sum(each["win_rate"] for each in students) / won if won else None


def retained(students: Sequence[dict[str, Any]]) -> float | None:
    """What is kept on average over seeds. None: of some teacher there is nothing to keep."""
    each = [row["retention"] for row in students]
    return None if None in each else fmean(each)


def percent(share: float | None, sign: str = "%") -> str:
    """A cell; a dash where there is nothing to say."""
    return "-" if share is None else f"{100 * share:.0f}{sign}"


def start(main: Callable[[Any], None], options: type) -> None:
    """A script: its options from the command line, and one line for what the user can mend."""
    with in_one_line(Path(sys.argv[0]).stem):
        prepare_devices()
        main(tyro.cli(options))


def write(page: str | None, text: str, mark: str, console: Console) -> None:
    """Prints the text; and puts it into a page, between `<!-- mark -->` and `<!-- /mark -->`."""
    console.print(text, highlight=False, soft_wrap=True)
    if page:
        before, _, rest = Path(page).read_text().partition(f"<!-- {mark} -->")
        after = rest.partition(f"<!-- /{mark} -->")[2]
        Path(page).write_text(f"{before}<!-- {mark} -->\n{text}\n<!-- /{mark} -->{after}")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)])
