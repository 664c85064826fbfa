"""`limbeck play`: the same episode by each of some trained policies, side by side, as a page and as an animation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import tyro
from rich.console import Console

from limbeck import runs
from limbeck.envs.smac.render import Film, render_gif, render_html
from limbeck.envs.smac.world import Smac
from limbeck.errors import BadSetting, LimbeckError, unknown
from limbeck.play import Recording, record
from limbeck.runs import Loaded
from limbeck.types import LOCAL

MOST = 4
"""battles that fit side by side"""
WRITERS = {".html": "a page with play, pause, step and a time slider", ".gif": "an animation"}
NARROWEST, WIDEST = 160, 2000
"""pixels of a battle in a GIF"""


class Player(NamedTuple):
    """A run and the name of one of its policies."""

    run: Loaded
    policy: str

    @property
    def address(self) -> str:
        """What one would say to get it."""
        return f"{self.run.name}:{self.policy}"

    @property
    def note(self) -> str:
        """Where it comes from, and what it may look at."""
        sees = "everything" if set(self.run.algorithm.policies[self.policy].view) - set(LOCAL) else "its own surroundings"
        return f"{self.run.name} · {self.run.config.method} · each agent sees {sees}"


@dataclass(frozen=True)
class PlayOptions:
    """What can be said about a replay."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """run folders, or RUN:POLICY for one policy of a run; a student's folder alone shows its teacher and the student"""
    out: tuple[str, ...] = ("battle.html", "battle.gif")
    """files to write, each .html or .gif"""
    seed: int = 0
    """of the episode, the same for all; it is the first that `evaluate` plays with this seed"""
    sight: bool = False
    """show in the GIF how far the agents see (the page has a switch)"""
    width: int = 640
    """pixels of each battle in the GIF"""


def run(options: PlayOptions, console: Console) -> None:
    """Plays, writes the files, and says how it ended.

    Raises:
        BadSetting, UnknownName, CheckpointError: what cannot be shown; nothing has been written.
    """
    _check(options)
    cast = _cast(options.runs)
    env = _common_world(cast)
    films = {}
    for name, player in zip(_names(cast), cast, strict=True):
        policy, params = player.run.algorithm.policies[player.policy], player.run.params
        with console.status(f"{name} plays"):
            recorded = record(env, policy, params, jax.random.key(options.seed), env.snapshot)
        outcome = outcome_of(recorded)
        films[name] = Film(env, recorded.moments, recorded.rewards, outcome, player.note)
        console.print(f"{name:<16} {outcome}", highlight=False, soft_wrap=True)
    settings = ", ".join(f"{key} {value}" for key, value in cast[0].run.config.env_settings.items())
    title = ", ".join(part for part in (env.spec.name, settings, f"seed {options.seed}") if part)
    for path in map(Path, options.out):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".gif":
                render_gif(films, path, title, options.width, sight=options.sight)
            else:
                render_html(films, path, title)
        except OSError as error:
            raise LimbeckError(f"cannot write {path}: {error.strerror}") from error
        console.print(str(path), highlight=False, soft_wrap=True)


def outcome_of(recorded: Recording) -> str:
    """How an episode ended, in a few words."""
    how = "won" if recorded.won else "lost" if recorded.terminated else "time is up"
    return f"{how} · step {len(recorded.rewards)} · return {recorded.rewards.sum():.1f}"


def _check(options: PlayOptions) -> None:
    """What can be known to be wrong before anything is loaded."""
    if not options.runs:
        raise BadSetting("name at least one run folder: limbeck play RUN [RUN2]")
    for path in map(Path, options.out):
        if path.suffix not in WRITERS:
            known = " or ".join(f"{suffix} ({what})" for suffix, what in WRITERS.items())
            raise BadSetting(f"{path} has no ending that says what to write; it must be {known}")
    if not NARROWEST <= options.width <= WIDEST:
        raise BadSetting(f"width is {options.width}; it must be {NARROWEST} to {WIDEST} pixels")


def _cast(words: Sequence[str]) -> list[Player]:
    """Who is asked for, from left to right."""
    loaded: dict[str, Loaded] = {}
    cast: list[Player] = []
    for word in words:
        path, policy = _split(word)
        each = loaded[path] = loaded.get(path) or runs.load(path)
        if policy is not None and policy not in each.algorithm.policies:
            raise unknown(f"policy of {path}", policy, each.algorithm.policies)
        alone = policy is None and len(words) == 1
        wanted = sorted(each.algorithm.policies, key=lambda name: name != "teacher") if alone else [policy or each.algorithm.main]
        cast += [Player(each, name) for name in wanted]
    if len(cast) > MOST:
        raise BadSetting(f"{len(cast)} battles do not fit side by side; name at most {MOST}")
    for player, number in Counter(player.address for player in cast).items():
        if number > 1:
            raise BadSetting(f"{player} is named {number} times; once is enough")
    return cast


def _split(word: str) -> tuple[str, str | None]:
    """RUN or RUN:POLICY. A folder's own name may hold a colon."""
    if ":" not in word or Path(word).is_dir():
        return word, None
    path, _, policy = word.rpartition(":")
    return path, policy


def _common_world(cast: Sequence[Player]) -> Smac:
    """The battle that all of them were trained in."""
    first = cast[0].run
    for player in cast[1:]:
        if _world(player.run) != _world(first):
            worlds = [f"{run.name} was trained in {_world(run)}" for run in (first, player.run)]
            raise BadSetting(f"{', '.join(worlds)}: only runs of the same world can play the same episode")
    env = runs.common_world([player.run for player in cast])
    if not isinstance(env, Smac):
        raise BadSetting(f"{first.name} was trained in {first.config.env}, which cannot be drawn; only battles can, smac/...")
    return env


def _world(run: Loaded) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in sorted(run.config.env_settings.items()))
    return run.config.env + (f" with {settings}" if settings else "")


def _names(cast: Sequence[Player]) -> list[str]:
    """What each is called above its battle: what it is, and its run where that does not tell them apart."""
    teachers = {Path(player.run.config.teacher["run"]).resolve() for player in cast if player.run.config.teacher}
    plain = [
        "teacher" if Path(run.name).resolve() in teachers else run.config.method if policy == "greedy" else policy
        for run, policy in cast
    ]
    return [name if plain.count(name) == 1 else f"{name} ({player.address})" for name, player in zip(plain, cast, strict=True)]
