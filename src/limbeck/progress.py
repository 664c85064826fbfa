"""A live line on the console for every run: steps, steps per second, win rate, return, time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Row = dict[str, Any]


@contextmanager
def live(label: str, console: Console) -> Iterator[Callable[[Row], None]]:
    """A function that shows each row of metrics as it comes. Off a terminal, a line is printed at each evaluation instead."""
    bar = Progress(
        TextColumn("[bold]{task.description:<14}"),
        BarColumn(bar_width=18),
        TaskProgressColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not console.is_terminal,
    )
    latest: Row = {}

    def show(row: Row) -> None:
        latest.update(row)
        text = facts(latest)
        bar.update(task, completed=row["progress"], facts=text)
        if not console.is_terminal and ("test_return" in row or row["progress"] >= 1):
            console.print(f"{label:<14} {row['progress']:>5.0%}  {text}", highlight=False, soft_wrap=True)

    with bar:
        task = bar.add_task(label, total=1.0, facts="compiling")
        yield show


def facts(row: Row) -> str:
    """What a person wants to know of a row, in one line."""
    parts = [f"{row['steps']:,} steps"]
    if row.get("updates"):
        parts.append(f"{row['updates']:,} updates")
    if row.get("steps_per_s"):
        parts.append(f"{row['steps_per_s']:,.0f}/s")
    if "validation_loss" in row:
        parts.append(f"validation loss {row['validation_loss']:.4f}")
    prefix = "test" if "test_return" in row else "train"
    if f"{prefix}_win_rate" in row:
        parts.append(f"win rate {row[f'{prefix}_win_rate']:.0%}")
    if f"{prefix}_return" in row:
        parts.append(f"return {row[f'{prefix}_return']:.2f}")
    if row.get("lost_episodes"):
        parts.append(f"{row['lost_episodes']} lost")
    return "  ".join(parts)
