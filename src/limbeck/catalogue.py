"""What there is to choose from, in tables; and a world that is tried out."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
from rich.console import Console
from rich.table import Column, Table

from limbeck.envs import registry
from limbeck.envs.adapters.doors import DOORS
from limbeck.envs.check import check_env
from limbeck.envs.host import HostEnv
from limbeck.errors import BadSetting
from limbeck.methods import METHODS, STUDENTS
from limbeck.methods.bases import BASES
from limbeck.types import EnvSpec

Row = tuple[str, ...]


def show(console: Console) -> None:
    """All worlds, methods and mixers."""
    worlds = Table(
        Column("world", overflow="fold"), *("agents", "actions", "obs", "state", "limit", "needs", "licence"), title="worlds"
    )
    for row in (*_built_in(), *_behind_doors()):
        worlds.add_row(*row)
    methods = Table("method", "what", "distilled by", title="methods")
    for name, method in METHODS.items():
        methods.add_row(name, method.summary, f"limbeck distil ({method.student})" if method.student else "-")
    console.print(worlds, methods, f"mixers: {', '.join(BASES)}", f"students: {', '.join(STUDENTS)}")
    console.print("extras: pip install 'limbeck[NAME]'", markup=False)


def check(name: str, settings: Mapping[str, Any], seed: int, episodes: int, console: Console) -> None:
    """Tries out a world, and says what it is.

    Raises:
        ContractBroken: it does not keep its promises.
        LimbeckError: it cannot be made.
    """
    if episodes < 2:
        raise BadSetting(f"episodes is {episodes}; it must be at least 2")
    env = registry.make(name, **settings)
    spec: EnvSpec = env.spec
    sizes = dict(zip(("agents", "actions", "obs", "state", "limit"), _sizes(spec), strict=True))
    console.print(f"{name}: {', '.join(f'{size} {what}' for what, size in sizes.items())}", highlight=False, soft_wrap=True)
    check_env(env, jax.random.key(seed), episodes)
    where = "worker processes" if isinstance(env, HostEnv) else "single and batched"
    console.print(f"{episodes} episodes of random legal play, {where}: the contract is kept", highlight=False, soft_wrap=True)


def _built_in() -> Iterator[Row]:
    """Worlds by names of limbeck's own, or that were registered from outside."""
    for name in registry.names():
        world = registry.entry(name)
        if world.needs:
            yield name, *"-----", f"data: {', '.join(world.needs)}", world.licence
        else:
            yield name, *_sizes(registry.make(name).spec), world.made_of, world.licence


def _behind_doors() -> Iterator[Row]:
    """Examples of worlds that others have written, whose sizes are written down; and the form of all names."""
    for prefix, door in sorted(DOORS.items()):
        needs = f"extra {door.extra}" if door.extra else "its packages"
        for name, sizes in door.examples.items():
            yield f"{prefix}:{name}", *map(str, sizes), needs, door.licence
        yield f"{prefix}:{door.form}", *"-----", needs, door.licence if door.package else "its own"


def _sizes(spec: EnvSpec) -> Row:
    return tuple(str(n) for n in (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit))
