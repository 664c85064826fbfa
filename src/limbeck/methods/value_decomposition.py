"""IQL, VDN and QMIX: recurrent agents, a mixer, and double Q-learning with TD(lambda).

    Q_i(tau_i, u_i)                  each agent's value from what it has seen itself
    Q_tot = mix(Q_1, ..., Q_n; s)   nothing (IQL), the sum (VDN, Sunehag et al. 2018), a monotone network (QMIX, Rashid et al. 2018)
    y     = TD(lambda) of the lagged Q_tot at u' = argmax_u Q_i (the learning network's argmax: double Q)
    L     = mean of (Q_tot - y)^2 / 2 over true transitions

The fine-tuned recipe (Adam, TD(0.6), parallel worlds) is that of Hu et al. 2021 (pymarl2). Other agents, such as the privileged
teacher of PTDE, come in through `q_learning`; other mixers by name.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from limbeck.errors import unknown
from limbeck.losses import masked_mean, td_lambda
from limbeck.nets.agents import Agent, RecurrentAgent
from limbeck.nets.mixers import Independent, Mixer, Monotonic, Sum
from limbeck.nets.unroll import decide, unroll
from limbeck.replay import Replay
from limbeck.types import LOCAL, Algorithm, Decision, EnvSpec, Policy, Segment, Source

UNAVAILABLE = -1e9


@dataclass(frozen=True)
class QSettings:
    """What Q-learning with a mixer can be told."""

    mixer: str = "qmix"
    """how the agents' values are joined: iql, vdn or qmix"""
    hidden: int = 64
    """units of the agents' recurrent state (H)"""
    embed: int = 32
    """units of QMIX's mixing layer"""
    hyper: int = 64
    """hidden units of QMIX's hypernetworks"""
    gamma: float = 0.99
    """discount"""
    td_lambda: float = 0.8
    """0: one-step targets; 1: Monte Carlo"""
    lr: float = 1e-3
    """Adam's step size"""
    max_grad_norm: float = 10.0
    """gradients are scaled down to this norm"""
    target_every: int = 50
    """updates between two copies to the target network"""
    eps_start: float = 1.0
    """share of random actions at the start"""
    eps_end: float = 0.05
    """share of random actions after `eps_steps`"""
    eps_steps: int = 50_000
    """environment steps over which exploration falls"""
    segment: int = 32
    """transitions in a segment (T)"""
    batch: int = 32
    """segments per update"""
    buffer: int = 10_000
    """segments kept in the replay"""
    updates: int = 4
    """updates per segment collected in every world"""
    learn_after: int = 0
    """environment steps before the first update"""


class QParams(NamedTuple):
    """What is learned."""

    agent: Agent
    mixer: Mixer


MIXERS: dict[str, Callable[[EnvSpec, QSettings, PRNGKeyArray], Mixer]] = {
    "iql": lambda spec, settings, key: Independent(),
    "vdn": lambda spec, settings, key: Sum(),
    "qmix": lambda spec, settings, key: Monotonic(spec, settings.embed, settings.hyper, key),
}


def build(spec: EnvSpec, settings: QSettings = QSettings(), **changes: Any) -> Algorithm:
    """IQL, VDN or QMIX, by `settings.mixer`. `changes` replace single settings, such as `mixer="vdn"`.

    Raises:
        UnknownName: there is no such mixer.
    """
    settings = replace(settings, **changes)
    return q_learning(spec, settings, lambda key: RecurrentAgent(spec, settings.hidden, key), LOCAL)


def q_learning(spec: EnvSpec, settings: QSettings, make_agent: Callable[[PRNGKeyArray], Agent], view: tuple[str, ...]) -> Algorithm:
    """Q-learning with any agent and any mixer; `view` names what the agent may look at."""
    if settings.mixer not in MIXERS:
        raise unknown("mixer", settings.mixer, MIXERS)

    def init(key: PRNGKeyArray) -> QParams:
        key_agent, key_mixer = jax.random.split(key)
        return QParams(make_agent(key_agent), MIXERS[settings.mixer](spec, settings, key_mixer))

    def loss(params: QParams, target: QParams, segment: Segment, key: PRNGKeyArray) -> tuple[Array, dict[str, Array]]:
        return q_loss(params, target, segment, key, settings.gamma, settings.td_lambda)

    def init_carry(worlds: int) -> Array:
        return jnp.zeros((worlds, spec.n_agents, settings.hidden))

    def copy_sometimes(params: QParams, target: QParams, updates: Array) -> QParams:
        return jax.tree.map(lambda new, old: jnp.where(updates % settings.target_every == 0, new, old), params, target)

    falling = optax.linear_schedule(settings.eps_start, settings.eps_end, settings.eps_steps)

    def explore(steps: Array) -> Array:
        return jnp.asarray(falling(steps))

    policy = q_policy(lambda params: params.agent, view, init_carry)
    return Algorithm(
        init=init,
        init_carry=init_carry,
        act=policy.act,
        explore=explore,
        loss=loss,
        source=Source(
            Replay(settings.buffer, settings.batch, half=spec.unit_scale), settings.segment, settings.updates, settings.learn_after
        ),
        optimiser=optax.chain(optax.clip_by_global_norm(settings.max_grad_norm), optax.adam(settings.lr)),
        policies={"greedy": policy},
        after_update=copy_sometimes,
    )


def q_loss(
    params: QParams, target: QParams, segment: Segment, key: PRNGKeyArray, gamma: float, lambda_: float
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Masked double-Q TD(lambda) loss on Q_tot. Gradients flow through `params` only."""
    key_online, key_target = jax.random.split(key)
    seen = segment.decisions
    q = unroll(params.agent, segment.carry0, seen, key_online)
    q_taken = _of(q[:-1], segment.action)
    q_lagged = unroll(target.agent, segment.carry0, seen, key_target)
    best = greedy(jax.lax.stop_gradient(q), seen.avail_actions)
    q_tot = params.mixer(q_taken, seen.state[:-1])
    value_next = target.mixer(_of(q_lagged, best)[1:], seen.state[1:])
    team = jax.tree.map(lambda x: x[..., None], (segment.reward, segment.terminated, segment.mask))
    reward, terminated, mask = jax.tree.map(lambda x: jnp.broadcast_to(x, q_tot.shape), team)
    returns = td_lambda(reward, jax.lax.stop_gradient(value_next), terminated, mask, gamma, lambda_)
    error = q_tot - returns
    metrics = {
        "q_taken": masked_mean(q_tot, mask),
        "target": masked_mean(returns, mask),
        "td_error": masked_mean(jnp.abs(error), mask),
    }
    return 0.5 * masked_mean(error**2, mask), metrics


def greedy(q: Float[Array, "*b A"], avail_actions: Array) -> Array:
    """The best available action of every agent."""
    return jnp.where(avail_actions, q, UNAVAILABLE).argmax(-1)


def q_policy(agent_of: Callable[[PyTree], Agent], view: tuple[str, ...], init_carry: Callable[[int], PyTree]) -> Policy:
    """The eps-greedy policy of an agent that sits somewhere in the parameters; greedy at eps = 0."""

    def act(params: PyTree, carry: Array, decision: Decision, key: PRNGKeyArray, eps: Array) -> tuple[Array, Array]:
        return eps_greedy(agent_of(params), carry, decision, key, eps)

    return Policy(act, view, agent_of, init_carry)


def eps_greedy(agent: Agent, carry: Array, decision: Decision, key: PRNGKeyArray, eps: Array) -> tuple[Array, Array]:
    """Each agent by itself: a random available action with probability eps, else its best."""
    key_net, key_coin = jax.random.split(key)
    q, carry = decide(agent, carry, decision, key_net)
    noise = jax.random.uniform(key_coin, (*q.shape[:-1], q.shape[-1] + 1))
    anything = jnp.where(decision.avail_actions, noise[..., 1:], -1.0).argmax(-1)
    return jnp.where(noise[..., 0] < eps, anything, greedy(q, decision.avail_actions)), carry


def _of(q: Float[Array, "*b A"], action: Array) -> Float[Array, "*b"]:
    return jnp.take_along_axis(q, action[..., None], axis=-1)[..., 0]
