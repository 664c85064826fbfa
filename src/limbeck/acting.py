"""Collecting where the workers act by themselves (decision 14): `hosted.collect`, but the policy goes to the worlds."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import PRNGKeyArray, PyTree

from limbeck.envs.acting import ActingWorkers
from limbeck.envs.host import HostEnv
from limbeck.envs.tape import Acting, packed, unpacked, width
from limbeck.hosted import HostWorlds, Move, recorded
from limbeck.rollout import Act, EpisodeStats
from limbeck.types import PRIVILEGED, Decision, Outcome, Segment


class Known(NamedTuple):
    """What acting reads besides decisions and recurrent states."""

    params: PyTree
    key: PRNGKeyArray
    explore: Any

    @property
    def constants(self) -> list[Any]:
        """As a list of arrays."""
        return jax.tree.leaves((self.params, jax.random.key_data(self.key), jnp.asarray(self.explore)))


def start_workers(
    env: HostEnv, n: int, seed: int, act: Act, known: Known, carry: PyTree, length: int, ahead: bool = False
) -> ActingWorkers:
    """Workers that collect segments of `length` steps in n worlds.

    Of `known` only shapes and types count, and of `carry` (as of n worlds) too. `ahead`: two segments may be under way, the second
    of which goes on where the first will have ended.

    Raises:
        WorldFailed: see `ActingWorkers`.
        LimbeckError: whatever the world's factory says is the user's to solve.
    """
    homes = env.homes(n)
    programs = [program(env, act, known, carry, size, len(homes)) for size in sorted(set(map(len, homes)), reverse=True)]
    acting = Acting(length, 1 + ahead, list(map(len, programs)), _forms(known.constants), _forms(carry))
    return ActingWorkers(env, n, seed, acting, programs)


def program(env: HostEnv, act: Act, known: Known, carry: PyTree, worlds: int, stride: int) -> bytes:
    """Acting as a program for another process: (constants, carry and number, packed decisions) -> (action, carry and number).

    All are lists of arrays. The number is that of the decision, from which its chance follows; the next one's is `stride` more.
    """
    sizes = env.sizes(worlds)
    tree, kind = jax.tree.structure(tuple(known)), jax.tree.structure(carry)

    def decide(constants: list[Any], carried: list[Any], seen: Any) -> tuple[Any, list[Any]]:
        params, key, explore = jax.tree.unflatten(tree, constants)
        *leaves, number = carried
        decision = Decision(**unpacked(sizes, seen)).within(PRIVILEGED)
        chance = jax.random.fold_in(jax.random.wrap_key_data(key), number)
        action, after = act(params, jax.tree.unflatten(kind, leaves), decision, chance, explore)
        return action.astype(jnp.int32), [*jax.tree.leaves(after), number + stride]

    def shape(kind: Any, form: tuple[int, ...]) -> Any:
        return jax.ShapeDtypeStruct(form, kind)

    fixed = [shape(*form) for form in _forms(known.constants)]
    carried = [shape(kind, (worlds, *form[1:])) for kind, form in _forms(carry)] + [shape(np.int32, ())]
    exported = export.export(jax.jit(decide), platforms=["cpu"])(fixed, carried, shape(np.float32, (worlds, width(sizes))))
    return bytes(exported.serialize())


def send(workers: ActingWorkers, known: Known, worlds: HostWorlds | None = None) -> None:
    """Every world is to play a segment: from where it stands, if that is given; otherwise from where the one before will end."""
    tape = workers.free
    for place, leaf in zip(tape.constants, known.constants, strict=True):
        place[...] = leaf
    if worlds is not None:
        for place, leaf in zip(tape.carry, jax.tree.leaves(worlds.carry), strict=True):
            place[...] = leaf
        packed(workers.env.sizes(workers.n), worlds.decision._asdict(), tape.seen[0])
    workers.play()


def collect(workers: ActingWorkers, worlds: HostWorlds) -> tuple[HostWorlds, Segment, EpisodeStats]:
    """The segment that was sent for first; see `hosted.collect`.

    Raises:
        WorldFailed: see `Workers.step`.
    """
    tape, sizes, kind = workers.played(), workers.env.sizes(workers.n), jax.tree.structure(worlds.carry)
    before, after = ([jnp.array(leaf) for leaf in leaves] for leaves in (tape.carry, tape.carry_after))
    record: Any = [array.copy() for array in tape[4:-1]]
    action, reward, terminated, truncated, won, lost = record
    decision = Decision(**unpacked(sizes, tape.seen[1:].copy()))
    returns = _so_far(worlds.episode_return, reward, terminated | truncated)
    told = Move(action, Outcome(reward, terminated, truncated, {"won": won, "lost": lost}), returns, decision)
    return recorded(worlds._replace(carry=jax.tree.unflatten(kind, before)), told, jax.tree.unflatten(kind, after))


def _so_far(begun: np.ndarray, reward: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """The episode's return up to every step, [T, B]."""
    returns, total = np.empty_like(reward), begun
    for t in range(len(reward)):
        returns[t] = total = total + reward[t]
        total = np.where(ended[t], np.float32(0), total)
    return returns


def _forms(tree: PyTree) -> list[tuple[str, tuple[int, ...]]]:
    return [(str(leaf.dtype), tuple(leaf.shape)) for leaf in jax.tree.leaves(tree)]
