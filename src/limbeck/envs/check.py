"""`check_env`: what every world promises, tried out on random play. For the tests of worlds inside and outside the package."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from limbeck.envs.base import Batch, Environment, VmapBatch, batch
from limbeck.envs.host import AnyEnvironment, HostEnv
from limbeck.envs.workers import Workers
from limbeck.errors import LimbeckError
from limbeck.types import EnvSpec, Observation, Outcome

UNIT = 2.05
"""How far a world of unit scale may stray from zero."""


class ContractBroken(LimbeckError, AssertionError):  # noqa: N818
    """A world that does not keep its promises."""


class Play(NamedTuple):
    """One episode per world: T decisions and what followed, [T, B, ...], T being the episode limit."""

    seen: Observation
    outcome: Outcome
    running: Any
    """whether the episode was still going on when the decision was made"""


def check_env(env: AnyEnvironment, key: PRNGKeyArray | None = None, worlds: int = 4, tolerance: float = 1e-4) -> None:
    """Nothing, if the world keeps the contract of `Environment` and its own `spec` in some episodes of random legal play.

    Of a host world, which may have chance and memory of its own, less can be asked: the rules of play, and that no worker is lost.

    Args:
        env: the world.
        key: of the episodes; None is key 0.
        worlds: how many episodes, played in parallel (at least 2).
        tolerance: how far the numbers of the batched layout may be from those of single worlds, as layouts round differently.

    Raises:
        ContractBroken: with what is wrong, where.
        WorldFailed: a host world that does not start.
    """
    key = jax.random.key(0) if key is None else key
    keys = jax.random.split(key, max(worlds, 2))
    _check_spec(env.spec)
    if isinstance(env, HostEnv):
        _check_host(env, keys)
        return
    _check_shapes(env, keys[0])
    _check_purity(env, keys[0])
    single, together = _Player(VmapBatch(env), env.spec), _Player(batch(env), env.spec)
    alone = single.play(keys)
    _check_play(env.spec, alone)
    _check_same("played again with the same key, the episode is another", alone, single.play(keys), 0.0)
    batched = together.play(keys)
    _check_same("batch() plays another episode than single worlds do", alone, batched, tolerance)
    order = np.arange(len(keys))[::-1]
    turned = jax.tree.map(lambda x: x[:, order], together.play(keys[order]))
    _check_same("what happens in a world depends on its place in the batch", batched, turned, 0.0)
    _check_where(together, keys)


def _require(holds: Any, promise: str) -> None:
    if not holds:
        raise ContractBroken(promise)


# -- before playing --------------------------------------------------------------------------------------------------------


def _check_spec(spec: EnvSpec) -> None:
    for name in ("n_agents", "n_actions", "obs_dim", "state_dim", "episode_limit"):
        _require(getattr(spec, name) >= 1, f"spec.{name} is {getattr(spec, name)}; it must be at least 1")
    slots = spec.state_slots
    if slots is not None:
        _require(len(slots) == spec.n_agents, f"spec.state_slots has {len(slots)} entries for {spec.n_agents} agents")
    for name, parts in (("state_slots", slots or ()), ("other_slots", spec.other_slots)):
        inside = all(0 <= start < stop <= spec.state_dim for start, stop in parts)
        _require(inside, f"spec.{name} {parts} lie outside a state of size {spec.state_dim}")
    if spec.sight is not None:
        ranges, numbers = spec.sight.ranges, (spec.sight.distance, *spec.sight.scaled)
        _require(len(ranges) == spec.n_agents, f"spec.sight.ranges has {len(ranges)} entries for {spec.n_agents} agents")
        inside = all(start >= 0 and start + max(numbers) < stop <= spec.obs_dim for start, stop in spec.sight.slots)
        _require(inside, f"spec.sight.slots lie outside an observation of size {spec.obs_dim}, or are too short for their numbers")


def _check_shapes(env: Environment, key: PRNGKeyArray) -> None:
    spec = env.spec
    try:
        state = jax.eval_shape(env.reset, key)
        after, outcome = jax.eval_shape(env.step, state, jax.ShapeDtypeStruct((spec.n_agents,), jnp.int32), key)
        seen = jax.eval_shape(env.observe, state)
    except (TypeError, ValueError) as error:  # among them, that a Python branch depends on a traced value
        what = f"the world cannot be compiled for an action of shape [{spec.n_agents}]"
        raise ContractBroken(f"{what}: {str(error).splitlines()[0]}") from error
    _require(isinstance(seen, Observation), f"observe returns {type(seen).__name__}, not Observation")
    _require(isinstance(outcome, Outcome), f"step returns {type(outcome).__name__}, not Outcome, beside the state")
    _require("won" in outcome.info, "outcome.info lacks `won`")
    per_agent = (spec.n_agents,)
    _check_array("obs", seen.obs, (*per_agent, spec.obs_dim), jnp.floating)
    _check_array("state", seen.state, (spec.state_dim,), jnp.floating)
    _check_array("avail_actions", seen.avail_actions, (*per_agent, spec.n_actions), jnp.bool_)
    _check_array("alive", seen.alive, per_agent, jnp.bool_)
    _check_array("reward", outcome.reward, (), jnp.floating)
    _check_array("terminated", outcome.terminated, (), jnp.bool_)
    _check_array("truncated", outcome.truncated, (), jnp.bool_)
    _check_array("info['won']", outcome.info["won"], (), jnp.bool_)
    same = jax.tree.structure(state) == jax.tree.structure(after)
    same = same and all(
        a.shape == b.shape and a.dtype == b.dtype for a, b in zip(*map(jax.tree.leaves, (state, after)), strict=True)
    )
    _require(same, f"the state changes its shape or types: reset gives {state}, step gives {after}")


def _check_array(name: str, array: Any, shape: tuple[int, ...], kind: Any) -> None:
    _require(array.shape == shape, f"{name} has shape {list(array.shape)}; by the spec it must be {list(shape)}")
    _require(jnp.issubdtype(array.dtype, kind), f"{name} has type {array.dtype}; it must be {kind.__name__.rstrip('_')}")


def _check_purity(env: Environment, key: PRNGKeyArray) -> None:
    """A world with chance or memory of its own gives another program when it is traced again."""
    action = jnp.zeros(env.spec.n_agents, jnp.int32)

    def program() -> tuple[str, list[Array]]:
        def both(key: PRNGKeyArray) -> Any:
            state = env.reset(key)
            return env.observe(state), env.step(state, action, key)

        closed = jax.make_jaxpr(both)(key)
        return str(closed.jaxpr), closed.consts

    (first, consts), (second, consts_again) = program(), program()
    same = first == second and all(np.array_equal(a, b) for a, b in zip(consts, consts_again, strict=True))
    _require(same, "the world is not pure: it remembers something, or draws chance from elsewhere than its key")


# -- playing ---------------------------------------------------------------------------------------------------------------


class _Player:
    """Random legal play, each world's chance drawn from its own key alone."""

    def __init__(self, worlds: Batch, spec: EnvSpec):
        self.where, self.reset, self._steps = worlds.where, jax.jit(worlds.reset), jax.jit(self._play)
        self._worlds, self._length = worlds, spec.episode_limit

    def play(self, keys: PRNGKeyArray, start: Any = None) -> Play:
        """Keys [B], and states to start from if not from a reset."""
        return jax.tree.map(np.asarray, self._steps(self.reset(keys) if start is None else start, keys))

    def _play(self, state: Any, keys: PRNGKeyArray) -> Play:
        start = state, jnp.ones(keys.shape, bool), keys
        return jax.lax.scan(self._step, start, None, length=self._length)[1]

    def _step(self, at: tuple[Any, Array, PRNGKeyArray], _: None) -> tuple[tuple[Any, Array, PRNGKeyArray], Play]:
        state, running, key = at
        key, key_act, key_step = jnp.moveaxis(jax.vmap(lambda k: jax.random.split(k, 3))(key), 1, 0)
        seen = self._worlds.observe(state)
        odds = jnp.where(seen.avail_actions, 0.0, -jnp.inf)
        action = jax.vmap(jax.random.categorical)(key_act, odds)
        state, outcome = self._worlds.step(state, action, key_step)
        after = running & ~(outcome.terminated | outcome.truncated)
        return (state, after, key), Play(seen, outcome, running)


def _check_play(spec: EnvSpec, play: Play) -> None:
    seen, outcome, running = play
    for name, array in (("obs", seen.obs), ("state", seen.state), ("reward", outcome.reward)):
        _never(running, ~np.isfinite(array), f"{name} is not finite")
    if spec.unit_scale:
        for name, array in (("obs", seen.obs), ("state", seen.state)):
            _never(running, np.abs(array) > UNIT, f"{name} exceeds the unit scale that the spec claims")
    choices = seen.avail_actions.sum(-1)
    _never(running, choices < 1, "an agent has no available action")
    _never(running, ~seen.alive & (choices != 1), "a dead agent has a choice; exactly one action must be available to it")
    _never(running, outcome.terminated & outcome.truncated, "the episode is terminated and truncated at once")
    ended = outcome.terminated | outcome.truncated
    _require((running & ended).any(0).all(), f"an episode goes on after spec.episode_limit = {spec.episode_limit} steps")
    _never(running, outcome.info["won"] & ~ended, "an episode is won before it has ended")


def _check_host(env: HostEnv, keys: PRNGKeyArray) -> None:
    """One episode per world, in workers of their own, and the first decision of the next one."""
    env.require()
    chance = np.random.default_rng(np.asarray(jax.random.key_data(keys)).ravel())
    moments = []
    with Workers(env, len(keys), int(chance.integers(2**31))) as workers:
        seen, running = workers.observe(), np.ones(len(keys), bool)
        for _ in range(env.spec.episode_limit):
            odds = np.where(seen.avail_actions, chance.random(seen.avail_actions.shape), -1.0)
            outcome, after = workers.step(odds.argmax(-1))
            moments.append(Play(seen, outcome, running))
            seen, running = after, running & ~np.asarray(outcome.terminated | outcome.truncated)
        _require(not workers.losses, f"an episode was lost: {workers.losses[:1]}")
    _check_play(env.spec, jax.tree.map(lambda *each: np.stack(each), *moments))


def _never(running: np.ndarray, wrong: Any, promise: str) -> None:
    """Counts only what happens while the episode lasts."""
    wrong = wrong.reshape(*running.shape, -1) & running[..., None]
    if wrong.any():
        t, b, _ = np.argwhere(wrong)[0]
        raise ContractBroken(f"{promise} (step {t} of episode {b})")


def _check_same(promise: str, a: Play, b: Play, tolerance: float) -> None:
    pairs = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
    found = []
    for (path, x), y in pairs:
        differ = np.abs(x.astype(np.float64) - y.astype(np.float64)) > tolerance * (1 + np.abs(x.astype(np.float64)))
        differ = differ.reshape(*a.running.shape, -1) & a.running[..., None]
        if differ.any():
            found.append((int(np.argwhere(differ)[0][0]), jax.tree_util.keystr(path, simple=True, separator=".")))
    if found:
        t, name = min(found)
        raise ContractBroken(f"{promise} (first in {name} at step {t})")


def _check_where(worlds: _Player, keys: PRNGKeyArray) -> None:
    flag = np.arange(len(keys)) % 2 == 0
    new, old = worlds.reset(keys), worlds.reset(keys[::-1])
    plays = [worlds.play(keys, start) for start in (worlds.where(jnp.asarray(flag), new, old), new, old)]
    expected = jax.tree.map(lambda a, b: np.where(flag.reshape((-1,) + (1,) * (a.ndim - 2)), a, b), plays[1], plays[2])
    _check_same("batch().where does not choose world by world", plays[0], expected, 0.0)
