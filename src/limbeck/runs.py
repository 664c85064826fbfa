"""Runs by configuration: what the command line does, as functions. A configuration is all it takes to repeat a run."""

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import jax
from jaxtyping import PyTree

from limbeck.documents import typed
from limbeck.envs import registry
from limbeck.envs.base import held_out
from limbeck.envs.host import AnyEnvironment
from limbeck.errors import BadSetting, LimbeckError, NotOffered, unknown
from limbeck.evaluate import Table, evaluate, evaluator, summary
from limbeck.hosted_learner import learner_for
from limbeck.learn import usable_devices
from limbeck.methods import METHODS, STUDENTS, Method
from limbeck.store import RunFolder
from limbeck.train import Plan, Row, Trained, train
from limbeck.types import Algorithm, EnvSpec, Policy


@dataclass(frozen=True)
class RunConfig:
    """A run, resolved: nothing in it depends on a default that may change."""

    method: str
    env: str
    env_settings: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    """the method's own"""
    steps: int | None = None
    seed: int = 0
    worlds: int = 8
    devices: int | None = None
    evaluations: int = 20
    evaluation_episodes: int = 64
    checkpoint_seconds: float = 120.0
    teacher: dict[str, Any] | None = None
    """a student's: `run`, `method` and `settings` of its teacher"""


def resolve(config: RunConfig) -> RunConfig:
    """The configuration with every default filled in and every value checked.

    Raises:
        UnknownName: an unknown method, world or setting.
        BadSetting: a value that makes no sense.
    """
    settings = dataclasses.asdict(settings_of(config))
    _check_teacher(config)
    _check_positive(config, ("steps", "worlds", "evaluations", "evaluation_episodes"), may_be_none=("steps",))
    make_env(config)
    resolved = dataclasses.replace(config, settings=settings, devices=config.devices or usable_devices(config.worlds))
    # Sizes that do not fit are refused here, and so is a world that cannot be made on this machine.
    learner = learner_for(make_env(resolved), build(resolved), resolved.worlds, resolved.devices)
    Plan.of(learner, resolved.steps)
    return resolved


def from_dict(document: Mapping[str, Any]) -> RunConfig:
    """A configuration read from JSON.

    Raises:
        UnknownName: an unknown key.
        BadSetting: a value of the wrong type.
    """
    return typed(RunConfig, document, "configuration")


def read_config(path: str | Path) -> RunConfig:
    """The configuration in a run's `config.json`, or in a file of the same form.

    Raises:
        LimbeckError: the file cannot be read or is no configuration.
    """
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise LimbeckError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise LimbeckError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise LimbeckError(f"{path} is no configuration: it must be a JSON object")
    return from_dict(document.get("config", document))


def find_method(name: str) -> Method:
    """A method by name; `package.module:build` imports one from outside.

    Raises:
        UnknownName: there is no such method.
    """
    if ":" in name:
        return _imported(name)
    if name not in METHODS and name not in STUDENTS:
        raise unknown("method", name, METHODS)
    return (METHODS | STUDENTS)[name]


def settings_of(config: RunConfig) -> Any:
    """The method's settings as its own dataclass, with its defaults, or its teacher's, for what the configuration leaves out."""
    method = find_method(config.method)
    settings = typed(type(method.settings), dataclasses.asdict(method.settings) | config.settings, f"setting of {config.method}")
    inherited = {n: config.teacher["settings"][n] for n in method.inherits if config.teacher and getattr(settings, n) is None}
    settings = dataclasses.replace(settings, **inherited)
    _check_positive(settings, [n for n in _SIZES if hasattr(settings, n)], may_be_none=("segment",))
    return settings


def make_env(config: RunConfig) -> AnyEnvironment:
    """The world of a run, with what its method asks of worlds."""
    return world_for(find_method(config.method).world, config.env, config.env_settings)


def world_for(wishes: Mapping[str, Any], name: str, settings: Mapping[str, Any]) -> AnyEnvironment:
    """A world by name, with its settings, and where they are silent what methods wish for, if it knows the setting."""
    known = registry.settings_of(name)
    asked = {setting: value for setting, value in wishes.items() if setting in known}
    return registry.make(name, **(asked | dict(settings)))


def build(config: RunConfig, teacher_params: PyTree | None = None) -> Algorithm:
    """The method of a run. A student without its teacher's parameters is only good for its shapes."""
    env, method, settings = make_env(config), find_method(config.method), settings_of(config)
    if config.teacher is None:
        try:
            return method.build(env.spec, settings)
        except NotOffered as error:
            complete = [name for name in registry.names() if not registry.needs_of(name)]
            fitting = [name for name in complete if error.offers(world_for(method.world, name, {}).spec)]
            raise BadSetting(f"{error}; worlds that fit: {', '.join(fitting) or 'none'}") from error
    if teacher_params is None:
        teacher = build(RunConfig(config.teacher["method"], config.env, config.env_settings, config.teacher["settings"]))
        teacher_params = jax.jit(teacher.init)(jax.random.key(0))
    return method.build(env.spec, teacher_params, settings)


def of_student(path: str | Path, **options: Any) -> RunConfig:
    """The configuration of a student of the teacher whose run is in `path`; `options` are fields of `RunConfig`.

    Raises:
        BadSetting: the run's method has nothing to distil.
        CheckpointError: there is no run.
    """
    teacher = from_dict(RunFolder.open(path).config)
    student = find_method(teacher.method).student
    if student is None:
        raise BadSetting(
            f"{path} holds a run of {teacher.method}, which has nothing to distil; train a teacher: limbeck train ptde, or mappo"
        )
    source = {"run": str(path), "method": teacher.method, "settings": teacher.settings}
    return RunConfig(student, teacher.env, teacher.env_settings, teacher=source, **options)


def start(config: RunConfig, out: str | Path | None, watch: Callable[[Row], None] = lambda row: None) -> Trained:
    """A new run in the folder `out` (None: nothing is kept)."""
    config = resolve(config)
    teacher_params = load(config.teacher["run"]).params if config.teacher is not None else None
    folder = RunFolder.create(out, dataclasses.asdict(config)) if out is not None else None
    return _go(config, folder, build(config, teacher_params), False, watch)


def resume(path: str | Path, watch: Callable[[Row], None] = lambda row: None) -> Trained:
    """The run in a folder, continued from its last checkpoint to its end.

    Raises:
        CheckpointError: there is no run or no usable checkpoint.
    """
    folder = RunFolder.open(path)
    config = from_dict(folder.config)
    if config.devices is not None and config.devices > jax.device_count():
        raise BadSetting(
            f"{path} was begun on {config.devices} devices and continues only on as many; here are {jax.device_count()}: "
            f"set JAX_NUM_CPU_DEVICES={config.devices}"
        )
    return _go(config, folder, build(config), True, watch)


def _go(config: RunConfig, folder: RunFolder | None, algorithm: Algorithm, resumed: bool, watch: Callable[[Row], None]) -> Trained:
    env = make_env(config)
    return train(
        env,
        algorithm,
        steps=config.steps,
        seed=config.seed,
        worlds=config.worlds,
        devices=config.devices,
        folder=folder,
        resume=resumed,
        evaluate=_judge(env, algorithm, config),
        evaluations=config.evaluations,
        checkpoint_seconds=config.checkpoint_seconds,
        watch=watch,
    )


def _judge(env: AnyEnvironment, algorithm: Algorithm, config: RunConfig) -> Callable[[PyTree], dict[str, Any]]:
    """params -> how the method's policies do in a few greedy episodes, always the same ones. The main one comes without a name."""
    names = algorithm.judged or (algorithm.main,)
    unseen = held_out(env, "validation")  # test data is for the end
    plays = {name: evaluator(unseen, algorithm.policies[name], config.evaluation_episodes) for name in names}

    def judge(params: PyTree) -> dict[str, Any]:
        key = jax.random.key(config.seed + 1_000_003)
        row: dict[str, Any] = {"test_policy": algorithm.main}
        for name, play in plays.items():
            found = summary(play(params, key, 0.0), env.spec)
            prefix = "test" if name == algorithm.main else f"test_{name}"
            row |= {f"{prefix}_{k}": found[k] for k in ("win_rate", "return", "length") if found[k] is not None}
        if row.get("test_teacher_win_rate"):
            row["test_retention"] = row["test_win_rate"] / row["test_teacher_win_rate"]
        return row

    return judge


@dataclass(frozen=True)
class Loaded:
    """A run that has been trained."""

    name: str
    config: RunConfig
    algorithm: Algorithm
    params: PyTree
    folder: RunFolder

    def policy(self) -> tuple[Policy, PyTree]:
        """The main policy, with its parameters."""
        return self.algorithm.policies[self.algorithm.main], self.params


def load(path: str | Path) -> Loaded:
    """The trained run in a folder.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    folder = RunFolder.open(path)
    config = from_dict(folder.config)
    algorithm = build(config)
    params = folder.load_params(jax.eval_shape(algorithm.init, jax.random.key(0)))
    return Loaded(str(path), config, algorithm, jax.tree.map(jax.numpy.asarray, params), folder)


def common_world(runs: Sequence[Loaded], env: str | None = None) -> AnyEnvironment:
    """The world of the first run, or another by name with its settings, and what any of their methods asks of worlds."""
    wishes = {setting: value for run in runs for setting, value in find_method(run.config.method).world.items()}
    first = runs[0].config
    return world_for(wishes, env or first.env, first.env_settings)


def compare(paths: list[str], episodes: int, seed: int = 0, env: str | None = None) -> Table:
    """Runs side by side in the same episodes.

    Retention is relative to the one teacher among them; if there are several, each student's is relative to its own.

    Policies that look at what the world does not show are left out: CTDS's teacher in the real game, say, but not its student.

    Args:
        paths: run folders.
        episodes: greedy episodes for each.
        seed: of the episodes.
        env: another world than the one trained in; sizes must agree.

    Raises:
        CheckpointError, UnknownName, BadSetting: see `load`; or worlds that differ.
    """
    runs = [load(path) for path in paths]
    world = common_world(runs, env)
    policies, teachers = {}, {}
    for run in runs:
        spec = make_env(run.config).spec
        if _sizes(spec) != _sizes(world.spec):
            raise BadSetting(f"{run.name} was trained in {spec.name}, whose sizes are not those of {world.spec.name}")
        reference = run.config.teacher["run"] if run.config.teacher is not None else None
        named = {f"{run.name}:{name}": (policy, run.params) for name, policy in run.algorithm.policies.items()}
        of_this = f"{reference}:greedy" if reference in paths else f"{run.name}:teacher"
        if reference in paths:
            del named[f"{run.name}:teacher"]
        named = {name: each for name, each in named.items() if world.spec.full_obs or "full_obs" not in each[0].view}
        policies |= named
        if of_this in named or reference in paths:
            teachers |= dict.fromkeys([*named, of_this], of_this)
    only = set(teachers.values())
    return evaluate(world, policies, episodes, jax.random.key(seed), teacher=only.pop() if len(only) == 1 else teachers)


_SIZES = (
    *("hidden", "embed", "hyper", "latent", "width", "heads", "kernels", "kernel_layers", "central", "alpha", "rank"),
    *("segment", "batch", "buffer", "rows", "updates", "target_every", "interval", "epochs", "minibatches", "chunk"),
    *("temperature", "lr", "student_lr", "novelty_lr", "critic_lr", "clip", "ratio_limit", "huber"),
)
"""settings that make sense only above zero, in whatever method has them"""


def _sizes(spec: EnvSpec) -> tuple[int, ...]:
    return spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim


def _imported(name: str) -> Method:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
        settings = get_type_hints(function)["settings"]()
    except (ImportError, AttributeError, KeyError, TypeError) as error:
        raise BadSetting(
            f"cannot take a method from '{name}': {error}; it must name a function (spec, settings: Dataclass)"
        ) from error
    return Method(function.__doc__ or name, settings, function)


def _check_teacher(config: RunConfig) -> None:
    needed = config.method in STUDENTS
    given = set(config.teacher or ())
    if needed and given != {"run", "method", "settings"}:
        raise BadSetting(f"{config.method} needs a teacher with run, method and settings: use limbeck distil RUN")
    if not needed and given:
        raise BadSetting(f"{config.method} has no teacher; leave it out of the configuration")


def _check_positive(record: Any, names: Any, may_be_none: tuple[str, ...] = ()) -> None:
    for name in names:
        value = getattr(record, name)
        if value is None and name in may_be_none:
            continue
        if value is None or not value > 0:
            raise BadSetting(f"{name} must be positive, not {value}")
