"""How good policies are: whole greedy episodes, the same ones for every policy, in a table with intervals."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, PRNGKeyArray, PyTree

from limbeck import stats
from limbeck.cost import cost, times_fewer
from limbeck.envs.base import Batch, batch, held_out
from limbeck.envs.host import AnyEnvironment, HostEnv
from limbeck.errors import BadSetting, unknown
from limbeck.hosted import compiled, play
from limbeck.learn import usable_devices
from limbeck.table import Episodes, Table
from limbeck.train import Trained
from limbeck.types import Decision, EnvSpec, Outcome, Policy

_AXIS = "device"


def _anything(params: PyTree, carry: PyTree, decision: Decision, key: Array, explore: Array) -> tuple[Array, PyTree]:
    return jax.random.categorical(key, jnp.where(decision.avail_actions, 0.0, -jnp.inf)), carry


AT_RANDOM: tuple[Policy, PyTree] = Policy(_anything, ("avail_actions",), lambda params: params, lambda worlds: ()), {}
"""random legal play: a policy without parameters, for `evaluate`"""


def evaluate(
    env: AnyEnvironment,
    policies: Mapping[str, Trained | tuple[Policy, PyTree]],
    episodes: int = 512,
    key: PRNGKeyArray | None = None,
    worlds: int = 64,
    explore: float = 0.0,
    teacher: str | Mapping[str, str] | None = None,
    random_return: float | None = None,
) -> Table:
    """Every policy's greedy episodes, summed up.

    Args:
        env: the world. One whose data is divided is played on its test data, unless another held-out part is its own.
        policies: by name, a trained method, or a policy and its parameters. `runs/a:student` is a run and its policy.
        episodes: how many for each policy, exactly.
        key: of all chance in the worlds, the same for every policy; None is key 0.
        worlds: copies in parallel. Each contributes its first episodes, so that short ones do not count more often than long ones.
        explore: handed to the policies; 0 is greedy.
        teacher: the policy that `retention` is relative to, by default the one called `teacher`; or for each student, by name, its
            own. In win rate where the world has one, else in return. Costs are compared with the same one's, as its over theirs.
        random_return: what counts as no return at all in the retention of returns. None: 0, but where returns may be negative, that
            of random play in the same episodes.

    Raises:
        UnknownName: `teacher` is none of the policies.
        BadSetting: not at least one episode and one world.
    """
    if teacher is None and "teacher" in policies:
        teacher = "teacher"
    teachers = dict.fromkeys(policies, teacher) if isinstance(teacher, str) else dict(teacher or {})
    for each in teachers.values():
        if each not in policies:
            raise unknown("teacher", each, policies)
    start = jax.random.key(0) if key is None else key
    env = held_out(env)
    pairs = {name: each.policy() if isinstance(each, Trained) else each for name, each in policies.items()}
    played = {name: evaluator(env, policy, episodes, worlds)(params, start, explore) for name, (policy, params) in pairs.items()}
    nothing = _nothing(env, episodes, worlds, start, random_return) if teachers else None
    spent = {name: cost(policy, params, env.spec) for name, (policy, params) in pairs.items()}
    rows = []
    for name, needs in spent.items():
        run, _, policy_name = name.rpartition(":")
        row = {"name": run or name, "policy": policy_name, **summary(played[name], env.spec)}
        if name in teachers:
            row |= retention(played[name], played[teachers[name]], env.spec, 0.0 if nothing is None else nothing)
            row |= {"random_return": float(nothing.mean())} if nothing is not None else {}
            row |= {"teacher": teachers[name], **times_fewer(needs, spent[teachers[name]])}
        row |= {"parameters": needs.parameters, "bytes": needs.bytes, "memory": needs.memory}
        rows.append(row | {"flops": needs.flops, "flops_compiled": needs.flops_compiled})
    return Table(rows, played)


def _nothing(env: AnyEnvironment, episodes: int, worlds: int, key: PRNGKeyArray, given: float | None) -> np.ndarray | None:
    """The returns that retention is counted from, given or measured; None where it is counted in wins, or from 0."""
    if env.spec.has_win:
        return None
    if given is not None:
        return np.array([given])
    policy, params = AT_RANDOM
    return evaluator(env, policy, episodes, worlds)(params, key, 0.0).returns if env.spec.negative_returns else None


def summary(played: Episodes, spec: EnvSpec) -> dict[str, Any]:
    """The means of some episodes, with their intervals. A world without victories has no win rate: null."""
    mean = stats.mean_ci(played.returns)
    won = stats.wilson(int(played.won.sum()), len(played.won)) if spec.has_win else None
    return {
        "episodes": len(played.returns),
        "win_rate": won and won.value,
        "win_rate_ci": won and _interval(won),
        "return": mean.value,
        "return_ci": _interval(mean),
        "length": float(played.lengths.mean()),
        "lost_episodes": played.lost or None,
    }


def retention(played: Episodes, teacher: Episodes, spec: EnvSpec, random_return: float | np.ndarray = 0.0) -> dict[str, Any]:
    """The share of the teacher's success that is left; null where the teacher has none.

    Of wins where the world has them, else of returns, counted from what random play returns: a number, or its episodes' returns.
    """
    if spec.has_win:
        kept = stats.ratio_ci(played.won, teacher.won)
    else:
        kept = stats.ratio_ci(played.returns, teacher.returns, random_return)
    return {"retention": _number(kept.value), "retention_ci": None if math.isnan(kept.value) else _interval(kept)}


def evaluator(
    env: AnyEnvironment, policy: Policy, episodes: int = 512, worlds: int = 64
) -> Callable[[PyTree, PRNGKeyArray, float], Episodes]:
    """`(params, key, explore) -> Episodes`, compiled once: for a learner that asks again and again.

    Raises:
        BadSetting: not at least one episode and one world.
    """
    if episodes < 1 or worlds < 1:
        raise BadSetting(f"evaluation needs at least 1 episode in 1 world, not {episodes} in {worlds}")
    worlds = min(worlds, episodes)
    if isinstance(env, HostEnv):
        return _host_evaluator(env, policy, _quota(episodes, min(worlds, env.parallel)))
    quota = _quota(episodes, worlds)
    mesh = Mesh(np.array(jax.devices()[: usable_devices(worlds)]), (_AXIS,))
    split, whole = P(_AXIS), P()
    in_specs = (whole, whole, whole, split, split)
    play = partial(_play, batch(env), env.spec, policy, int(quota.max()))
    play = jax.jit(jax.shard_map(play, mesh=mesh, in_specs=in_specs, out_specs=split, check_vma=False))
    counted = np.arange(quota.max()) < quota[:, None]

    def run(params: PyTree, key: PRNGKeyArray, explore: float = 0.0) -> Episodes:
        key_act, key_worlds = jax.random.split(key)
        # Parameters may come from a learner that spreads them over other devices than these.
        params = jax.device_put(params, NamedSharding(mesh, whole))
        log = play(params, key_act, jnp.float32(explore), jax.random.split(key_worlds, worlds), jnp.asarray(quota))
        returns, lengths, won = (np.asarray(each)[counted] for each in log)
        return Episodes(returns, lengths, won)

    return run


def _quota(episodes: int, worlds: int) -> np.ndarray:
    """How many of the episodes each world plays, [B]."""
    return np.full(worlds, episodes // worlds) + (np.arange(worlds) < episodes % worlds)


def _host_evaluator(env: HostEnv, policy: Policy, quota: np.ndarray) -> Callable[[PyTree, PRNGKeyArray, float], Episodes]:
    """The same in worker processes, started anew each time: worlds that remember begin every evaluation alike."""
    env.require()
    act = compiled(policy.act)
    return lambda params, key, explore=0.0: Episodes(*play(env, policy, act, params, quota, key, explore))


_Log = tuple[Array, Array, Array]


class Progress(NamedTuple):
    """B worlds at a decision, and what is known of their episodes so far, [B] and [B, Q]."""

    state: Any
    carry: PyTree
    last_action: Array
    is_first: Array
    iteration: Array
    episode: Array
    length: Array
    total: Array
    log: _Log


def _play(
    worlds: Batch, spec: EnvSpec, policy: Policy, q: int, params: PyTree, key_act: Array, explore: Array, key: Array, quota: Array
) -> _Log:
    """Every world's first `quota` [B] episodes, q at most; key [B] -> [B, q]."""
    n = quota.shape[0]
    key_act = jax.random.fold_in(key_act, jax.lax.axis_index(_AXIS))

    def step(at: Progress) -> Progress:
        state, outcome, action, carry = advance(worlds, policy, params, key_act, explore, key, at)
        ended = outcome.terminated | outcome.truncated
        length, total = at.length + 1, at.total + outcome.reward
        place = jnp.arange(n), jnp.where(ended & (at.episode < quota), at.episode, q)  # q is out of bounds: dropped
        returns, lengths, won = at.log
        log = (
            returns.at[place].set(total, mode="drop"),
            lengths.at[place].set(length, mode="drop"),
            won.at[place].set(outcome.info["won"], mode="drop"),
        )
        episode = at.episode + ended
        fresh = worlds.reset(chance(key, episode, jnp.zeros_like(episode)))
        return Progress(
            state=worlds.where(ended, fresh, state),
            carry=carry,
            last_action=jnp.where(ended[:, None], -1, action),
            is_first=ended,
            iteration=at.iteration + 1,
            episode=episode,
            length=jnp.where(ended, 0, length),
            total=jnp.where(ended, 0.0, total),
            log=log,
        )

    return jax.lax.while_loop(lambda at: (at.episode < quota).any(), step, begin(worlds, spec, policy, key, q)).log


def chance(key: Array, episode: Array, use: Array) -> Array:
    """The keys of B worlds: they depend on world, episode and moment alone, so that all policies begin, and fare, alike."""
    return jax.vmap(lambda k, e, u: jax.random.fold_in(jax.random.fold_in(k, e), u))(key, episode, use)


def begin(worlds: Batch, spec: EnvSpec, policy: Policy, key: Array, q: int = 1) -> Progress:
    """B worlds, key [B], before the first decision of their first episode."""
    n = key.shape[0]
    zero = jnp.zeros(n, jnp.int32)
    return Progress(
        state=worlds.reset(chance(key, zero, zero)),
        carry=policy.init_carry(n),
        last_action=jnp.full((n, spec.n_agents), -1, jnp.int32),
        is_first=jnp.ones(n, bool),
        iteration=jnp.int32(0),
        episode=zero,
        length=zero,
        total=jnp.zeros(n),
        log=(jnp.zeros((n, q)), jnp.zeros((n, q), jnp.int32), jnp.zeros((n, q), bool)),
    )


def advance(
    worlds: Batch, policy: Policy, params: PyTree, key_act: Array, explore: Array, key: Array, at: Progress
) -> tuple[Any, Outcome, Array, PyTree]:
    """One decision of B worlds and what it leads to: state, outcome, action and carry, before anything is reset."""
    decision = Decision.about(worlds.observe(at.state), at.last_action, at.is_first).within(policy.view)
    action, carry = policy.act(params, at.carry, decision, jax.random.fold_in(key_act, at.iteration), explore)
    state, outcome = worlds.step(at.state, action, chance(key, at.episode, at.length + 1))
    return state, outcome, action, carry


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(estimate: stats.Estimate) -> list[float | None]:
    return [_number(estimate.low), _number(estimate.high)]
