"""JaxMARL's environments: `jaxmarl:HeuristicEnemySMAX`. They are JAX programs, so they run inside jit like limbeck's own.

Of JaxMARL nothing but the environments is used. Its `step` resets by itself, its wrappers merge the two ends of an episode; neither
is called.
"""

import importlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from limbeck.envs.adapters.jaxmarl_families import family_of
from limbeck.envs.adapters.spaces import actions_of
from limbeck.envs.adapters.team import Made, stops_after
from limbeck.errors import BadSetting, unknown
from limbeck.types import EnvSpec, Observation, Outcome

REWARDS = {"sum": jnp.sum, "mean": jnp.mean}


@dataclass(frozen=True)
class JaxmarlSettings(Made):
    """How a team is made of agents (see `Rules`), what the environment is made with (see `Made`), and:

    Args:
        reward: as in `Rules`. Where all agents are paid the same, as in SMAX, Hanabi and Overcooked, the mean is just that.
        state: auto is the environment's world state at unit scale, or all observations in a row where it has none; observations is
            the latter in any case.
        scenario: SMAX: the name of a map.
        negative_returns: whether returns may be below 0, see `EnvSpec`; None: what limbeck knows of the family.
    """

    reward: str = "mean"
    scenario: str = ""
    negative_returns: bool | None = None


class JaxmarlState(NamedTuple):
    """An episode in progress."""

    inner: Any
    """JaxMARL's own state"""
    obs: Float[Array, "N O"]
    """as the last reset or step returned it: some environments cannot be asked for it again"""
    world: Float[Array, "S"] | None
    """the world state; None: there is none, or nobody wants it"""
    alive: Bool[Array, "N"]
    steps: Int[Array, ""]


class JaxmarlWorld:
    """An environment with JaxMARL's interface as a world of one team.

    Who sees or can do less than others sees zeros, and has actions that are never available. JaxMARL has one flag for both ends of
    an episode. Before `max_steps`, or where there is no such thing, it means that the world ended; from then on the episode is
    truncated, unless the family's state says that it had ended by itself. An agent whose own flag is set is not alive.

    Args:
        env: the environment.
        name: what the world is called.
        settings: how it is played.

    Raises:
        BadSetting: it has actions that cannot be counted, no limit, or two sides.
    """

    def __init__(self, env: Any, name: str, settings: JaxmarlSettings):
        self._env, self._agents, self._family = env, tuple(env.agents), family_of(env)
        if self._family.refused:
            raise BadSetting(f"{name}: {self._family.refused}")
        if settings.scenario and not self._family.scenarios:
            raise BadSetting(f"{name} has no scenarios; what it is made with is the setting options")
        self._actions = [actions_of(agent, env.action_space(agent)) for agent in self._agents]
        self._reward = REWARDS[settings.reward]
        self._own_limit = self._family.limit(env)
        self._look_inside(settings)
        self.spec = self._measure(name, settings)

    def reset(self, key: PRNGKeyArray) -> JaxmarlState:
        seen, inner = self._env.reset(key)
        return self._state(seen, inner, jnp.ones(len(self._agents), bool), jnp.int32(0))

    def step(self, state: JaxmarlState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[JaxmarlState, Outcome]:
        told = {agent: action[i] for i, agent in enumerate(self._agents)}
        seen, inner, reward, ended, _ = self._env.step_env(key, state.inner, told)
        alive = ~jnp.stack([jnp.asarray(ended[agent], bool) for agent in self._agents])
        after = self._state(seen, inner, alive, state.steps + 1)
        end = jnp.asarray(ended["__all__"], bool)
        early = True if self._own_limit is None else after.steps < self._own_limit
        itself = early | self._family.over(self._env, after.inner)
        terminated = end & itself
        truncated = ~terminated & (end | (after.steps >= self.spec.episode_limit))
        won = terminated & self._family.won(self._env, after.inner) if self._family.won else jnp.array(False)
        paid = self._reward(jnp.stack([jnp.asarray(reward[agent], jnp.float32).reshape(()) for agent in self._agents]))
        return after, Outcome(paid, terminated, truncated, {"won": won})

    def observe(self, state: JaxmarlState) -> Observation:
        avail = jnp.arange(self.spec.n_actions)[None] < jnp.array(self._actions)[:, None]
        if self._masked:
            free = self._env.get_avail_actions(state.inner)
            avail &= _rows([jnp.asarray(free[agent]) != 0 for agent in self._agents], self.spec.n_actions)
        first = jax.nn.one_hot(avail.argmax(-1), self.spec.n_actions, dtype=bool)
        avail = jnp.where(state.alive[:, None], avail, first)
        world = state.obs.ravel() if state.world is None else state.world
        return Observation(state.obs, world, avail, state.alive)

    def _look_inside(self, settings: JaxmarlSettings) -> None:
        """Shapes and types of what the environment returns. Nothing is computed."""
        key = jax.eval_shape(jax.random.key, 0)
        told = {agent: jax.ShapeDtypeStruct((), jnp.int32) for agent in self._agents}
        seen, inner = jax.eval_shape(self._env.reset, key)
        self._width = max(seen[agent].size for agent in self._agents)
        self._has_world = settings.state == "auto" and "world_state" in seen
        self._types = jax.eval_shape(self._env.step_env, key, inner, told)[1]
        try:
            jax.eval_shape(self._env.get_avail_actions, self._types)
            self._masked = True
        except NotImplementedError:
            self._masked = False

    def _measure(self, name: str, settings: JaxmarlSettings) -> EnvSpec:
        limit, n = stops_after(settings.episode_limit or self._own_limit), len(self._agents)
        if self._own_limit is not None and limit > self._own_limit:
            raise BadSetting(f"episode_limit is {limit}, but {name} stops after {self._own_limit} steps by itself; see options")
        slots, others = tuple((i * self._width, (i + 1) * self._width) for i in range(n)), ()
        if self._has_world:
            slots, others = self._family.slots(self._env) if self._family.slots else (None, ())
        size, negative = jax.eval_shape(self.reset, jax.eval_shape(jax.random.key, 0)).world, settings.negative_returns
        return EnvSpec(
            name,
            n_agents=n,
            n_actions=max(self._actions),
            obs_dim=self._width,
            state_dim=n * self._width if size is None else size.size,
            episode_limit=limit,
            state_slots=slots,
            other_slots=others,
            has_win=self._family.won is not None,
            unit_scale=self._family.unit_scale,
            negative_returns=self._family.negative_returns if negative is None else negative,
        )

    def _state(self, seen: Any, inner: Any, alive: Bool[Array, "N"], steps: Int[Array, ""]) -> JaxmarlState:
        """What is kept of a reset or a step; of the same types in both, which JaxMARL does not promise."""
        inner = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), inner, self._types)
        obs = _rows([jnp.asarray(seen[agent], jnp.float32).ravel() for agent in self._agents], self._width)
        world = None
        if self._has_world:
            world = self._family.scaled(self._env, inner, jnp.asarray(seen["world_state"], jnp.float32).ravel())
        return JaxmarlState(inner, obs, world, alive, steps)


def _rows(each: list[Array], width: int) -> Array:
    """[N, width], with zeros at the end."""
    return jnp.stack([jnp.pad(row, (0, width - row.size)) for row in each])


def world(name: str, rest: str, settings: JaxmarlSettings) -> JaxmarlWorld:
    """The environment that JaxMARL calls `rest`.

    Raises:
        UnknownName: JaxMARL has none of this name, or no such map.
        BadSetting: it cannot be made so, or not be played by a team.
    """
    jaxmarl: Any = importlib.import_module("jaxmarl")
    if rest not in jaxmarl.registered_envs:
        raise unknown("environment of JaxMARL", rest, jaxmarl.registered_envs)
    options = dict(settings.options)
    if settings.scenario:
        options["scenario"] = _scenario(settings.scenario)
    try:
        env = jaxmarl.make(rest, **options)
    except Exception as error:
        shown = f"the options {dict(settings.options)}" + (f" and the scenario {settings.scenario}" if settings.scenario else "")
        raise BadSetting(f"{name} cannot be made with {shown}: {' '.join(str(error).split())}") from error
    return JaxmarlWorld(env, name, settings)


def _scenario(name: str) -> Any:
    known: Any = importlib.import_module("jaxmarl.environments.smax.smax_env").MAP_NAME_TO_SCENARIO
    if name not in known:
        raise unknown("scenario of SMAX", name, known)
    return known[name]
