"""The command line: `limbeck demo | list | check | train | distil | evaluate | play | bench`. Each is a function too."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.console import Console

from limbeck import arguments
from limbeck.errors import BadSetting, LimbeckError, in_one_line, unknown

USAGE = """usage: limbeck VERB ...

  demo                     train a baseline, a teacher and its student on a battle, and compare them (minutes)
  list                     worlds, methods and mixers
  check ENV                try out a world in random play: sizes, masks, ends
  train METHOD --env ENV   train a method; --resume RUN continues one, --config FILE repeats one
  distil RUN               distil the teacher in RUN into a student
  evaluate RUN [RUN ...]   play greedy episodes and compare
  play RUN [RUN2 ...]      film an episode of one policy, or the same of several side by side
  bench                    measure speed on this machine

`limbeck VERB --help` explains each. Worlds, methods and settings are listed by `limbeck list`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. Exit codes: 0 well; 2 the user can mend it, one line says how; 130 stopped by the user."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with in_one_line("limbeck"):
        prepare_devices()
        _dispatch(words)


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"limbeck {version('limbeck')}")
        return
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    VERBS[verb](rest)


def prepare_devices() -> None:
    """One device per core, and compiled programs kept between starts. Both only if nothing has been decided yet."""
    if not os.environ.get("JAX_NUM_CPU_DEVICES") and "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jax.config.update("jax_num_cpu_devices", cores)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "limbeck"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


# -- options ---------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """What every run can be told."""

    env: str
    """the world, such as smac/3s_vs_5z"""
    out: str | None = None
    """run folder; default runs/METHOD-WORLD-SEED"""
    steps: int = 1_000_000
    """environment steps over all worlds"""
    seed: int = 0
    """of everything random"""
    worlds: int = 8
    """copies of the world in parallel"""
    devices: int | None = None
    """devices to split them over; default: as many as divide them"""
    evaluations: int = 20
    """how often to evaluate, evenly spaced"""
    evaluation_episodes: int = 64
    """greedy episodes each time"""
    checkpoint_seconds: float = 120.0
    """at most so long between checkpoints"""
    env_set: tuple[str, ...] = ()
    """settings of the world, such as sight_range=4"""


@dataclasses.dataclass(frozen=True)
class DistilOptions:
    """What a distillation can be told."""

    run: tyro.conf.Positional[str]
    """the teacher's run folder"""
    out: str | None = None
    """the student's run folder; default RUN-student"""
    seed: int = 0
    """of everything random"""
    worlds: int = 8
    """copies of the world in parallel"""
    devices: int | None = None
    """devices to split them over"""
    evaluation_episodes: int = 64
    """greedy episodes at each evaluation"""
    checkpoint_seconds: float = 120.0
    """at most so long between checkpoints"""


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What an evaluation can be told."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """run folders"""
    episodes: int = 512
    """greedy episodes for each policy"""
    seed: int = 0
    """of the episodes; the same for every policy"""
    env: str | None = None
    """play in another world of the same sizes"""
    latency: bool = False
    """also measure how long decisions take on one thread, in a process of its own (seconds for each run)"""
    json: str | None = None
    """write the rows to this file"""


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """Which world is tried out."""

    env: tyro.conf.Positional[str]
    """the world"""
    env_set: tuple[str, ...] = ()
    """settings of the world, such as sight_range=4"""
    episodes: int = 4
    """episodes of random play, in parallel"""
    seed: int = 0
    """of the episodes"""


@dataclasses.dataclass(frozen=True)
class OutOptions:
    """Where a report goes."""

    json: str | None = None
    """write the rows to this file"""


# -- verbs -----------------------------------------------------------------------------------------------------------------


def _list(words: list[str]) -> None:
    from limbeck import catalogue

    arguments.parse(dataclasses.make_dataclass("ListOptions", []), words, "list")
    catalogue.show(_console())


def _check(words: list[str]) -> None:
    from limbeck import catalogue

    options = arguments.parse(CheckOptions, words, "check")
    settings = dict(_assignment(text) for text in options.env_set)
    catalogue.check(options.env, settings, options.seed, options.episodes, _console())


def _train(words: list[str]) -> None:
    from limbeck import runs

    if words and words[0] == "--resume":
        _show("resume", _one(words[1:], "--resume RUN"), lambda watch: runs.resume(words[1], watch))
        return
    if words and words[0] == "--config":
        path, out = _one(words[1:2], "--config FILE --out RUN"), _out_option(words[2:])
        _show(Path(path).stem, out, lambda watch: runs.start(runs.read_config(path), out, watch))
        return
    if not words or words[0].startswith("-"):
        from limbeck.methods import METHODS

        if words and words[0] in ("-h", "--help"):
            print("usage: limbeck train METHOD --env ENV [options] | --resume RUN | --config FILE --out RUN")
            print("methods: " + ", ".join(METHODS))
            return
        raise BadSetting("name a method first: limbeck train METHOD --env ENV; methods: " + ", ".join(METHODS))
    name = words[0]
    method = runs.find_method(name)
    preset, words = _take_preset(words[1:], method.presets)
    form = f"train {name} [--preset {'|'.join(method.presets)}]" if method.presets else f"train {name}"
    options, settings = arguments.with_settings(TrainOptions, preset or method.settings, words, form)
    config = runs.RunConfig(
        method=name,
        settings=dataclasses.asdict(settings),
        env_settings=dict(_assignment(text) for text in options.env_set),
        **{k: v for k, v in vars(options).items() if k not in ("out", "env_set")},
    )
    world = options.env.replace("/", "-").replace(":", "-")
    out = options.out or f"runs/{name.replace(':', '.')}-{world}-{options.seed}"
    _show(name, out, lambda watch: runs.start(config, out, watch))


def _distil(words: list[str]) -> None:
    from limbeck import runs
    from limbeck.methods import STUDENTS

    named = bool(words) and not words[0].startswith("-")
    student = runs.of_student(words[0]).method if named else next(iter(STUDENTS))
    preset, words = _take_preset(words, STUDENTS[student].presets)
    if not named and not {"-h", "--help"} & set(words):
        raise BadSetting("name the teacher's run folder first: limbeck distil RUN [--out RUN2]")
    options, settings = arguments.with_settings(
        DistilOptions, preset or STUDENTS[student].settings, words, f"distil RUN [--preset {'|'.join(STUDENTS[student].presets)}]"
    )
    config = runs.of_student(
        options.run,
        settings=dataclasses.asdict(settings),
        evaluations=4,
        **{k: v for k, v in vars(options).items() if k not in ("out", "run")},
    )
    out = options.out or f"{options.run.rstrip('/')}-student"
    _show(student, out, lambda watch: runs.start(config, out, watch))


def _evaluate(words: list[str]) -> None:
    from limbeck import runs

    options = arguments.parse(EvaluateOptions, words, "evaluate")
    if not options.runs:
        raise BadSetting("name at least one run folder: limbeck evaluate RUN [RUN ...]")
    table = runs.compare(list(options.runs), options.episodes, options.seed, options.env)
    console = _console()
    console.print(table.rich(f"{options.episodes} greedy episodes each"))
    if options.latency:
        from limbeck import timing

        table = timing.with_latency(table)
        console.print(table.costs("acting in one world, on one thread"))
    if options.json:
        _write(options.json, table.to_json())


def _play(words: list[str]) -> None:
    from limbeck import watch

    watch.run(arguments.parse(watch.PlayOptions, words, "play"), _console())


def _bench(words: list[str]) -> None:
    from limbeck import bench

    options = arguments.parse(OutOptions, words, "bench")
    report = bench.run(_console())
    if options.json:
        _write(options.json, json.dumps(report, indent=2))


def _demo(words: list[str]) -> None:
    from limbeck import demo

    demo.run(arguments.parse(demo.DemoOptions, words, "demo"), _console())


VERBS: dict[str, Callable[[list[str]], None]] = {
    "demo": _demo,
    "list": _list,
    "check": _check,
    "train": _train,
    "distil": _distil,
    "evaluate": _evaluate,
    "play": _play,
    "bench": _bench,
}


# -- plumbing --------------------------------------------------------------------------------------------------------------


def _console() -> Console:
    """A terminal is as wide as it is; a file or a pipe is given room for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def _show(label: str, out: str, run: Callable[[Any], Any]) -> None:
    """Runs with a live line, and says afterwards where everything is."""
    from limbeck.progress import live

    console = _console()
    with live(label, console) as watch:
        trained = run(watch)
    lost = sum(row.get("lost_episodes", 0) for row in trained.rows)
    if lost:
        console.print(f"{lost} episodes were lost with their worlds, which were started anew", highlight=False)
    console.print(f"run folder: {out}", highlight=False, soft_wrap=True)


def _take_preset(words: list[str], presets: dict[str, Any]) -> tuple[Any, list[str]]:
    if "--preset" not in words:
        return None, words
    at = words.index("--preset")
    name = _one(words[at + 1 : at + 2], "--preset NAME")
    if name not in presets:
        raise unknown("preset", name, presets)
    return presets[name], words[:at] + words[at + 2 :]


def _one(words: list[str], form: str) -> str:
    if len(words) != 1:
        raise BadSetting(f"expected {form}")
    return words[0]


def _out_option(words: list[str]) -> str:
    if len(words) != 2 or words[0] != "--out":
        raise BadSetting("expected --config FILE --out RUN")
    return words[1]


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadSetting(f"a world's setting is written name=value, not '{text}'")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text + "\n")
    except OSError as error:
        raise LimbeckError(f"cannot write {path}: {error.strerror}") from error
