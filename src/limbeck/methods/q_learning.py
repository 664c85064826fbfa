"""What every value-decomposition method shares: settings, exploration, segments, target networks, and double-Q TD(lambda).

    Q_i(tau_i, u_i)                 each agent's value from what it has seen
    Q_tot = mix(Q_1, ..., Q_n; s)   a mixer, monotone in every Q_i, so that each agent's own argmax is the team's
    y     = TD(lambda) of the lagged Q_tot at u' = argmax_u Q_i, the learning network's argmax (double Q; van Hasselt et al. 2016)
    L     = mean of (Q_tot - y)^2 / 2 over true transitions

A `Base` is a way to join the agents' values: a mixer, a loss, and a critic if the loss needs one. `methods/bases.py` lists them by
name. Agents come from outside: local ones for the bases themselves, privileged ones for PTDE and its kin.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from limbeck.errors import unknown
from limbeck.losses import for_each, masked_mean, td_lambda
from limbeck.nets.agents import Agent
from limbeck.nets.carried import Carried, beside
from limbeck.nets.greedy import UNAVAILABLE, best_actions, q_policy, start_of, taken
from limbeck.nets.mixers import Joint, Mixer
from limbeck.nets.unroll import Values, unroll
from limbeck.replay import Replay
from limbeck.types import Algorithm, Decision, EnvSpec, Segment, Source


@dataclass(frozen=True)
class QSettings:
    """What Q-learning with a mixer can be told."""

    mixer: str = "qmix"
    """how the agents' values are joined: iql, vdn, qmix, qatten, qplex, ow-qmix, cw-qmix or qtran"""
    hidden: int = 64
    """units of the agents' recurrent state (H)"""
    embed: int = 32
    """units of QMIX's mixing layer; size of Qatten's queries and keys"""
    hyper: int = 64
    """hidden units of the networks that read the state: hypernetworks, QTRAN's joint network"""
    heads: int = 4
    """Qatten: attention heads"""
    kernels: int = 4
    """QPLEX: terms in the sum that weighs the advantages (K)"""
    kernel_layers: int = 2
    """QPLEX: layers of the networks in that sum"""
    central: int = 256
    """weighted QMIX: hidden units of the central mixer"""
    alpha: float = 0.1
    """weighted QMIX: weight of joint actions that look bad (0.5 and 0.75 were used on SMAC in the paper)"""
    opt_weight: float = 1.0
    """QTRAN: weight of the loss at the best joint action"""
    nopt_weight: float = 0.1
    """QTRAN: weight of the loss at the joint action taken"""
    gamma: float = 0.99
    """discount"""
    td_lambda: float = 0.8
    """0: one-step targets; 1: Monte Carlo"""
    optimiser: str = "adam"
    """adam or rmsprop"""
    lr: float = 1e-3
    """the optimiser's step size"""
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
    segment: int | None = 32
    """transitions in a segment (T); none: the world's episode limit"""
    batch: int = 32
    """segments per update"""
    buffer: int = 10_000
    """segments kept in the replay"""
    updates: int = 4
    """updates per segment collected in every world"""
    learn_after: int = 0
    """environment steps before the first update"""


DEFAULTS = QSettings()

PRESETS: dict[str, dict[str, Any]] = {
    # Samvelyan et al. 2019: one world, an update on 32 episodes after each. For 2.05M steps, with `worlds` 1.
    "pymarl": {
        **{"optimiser": "rmsprop", "lr": 5e-4, "eps_steps": 50_000, "td_lambda": 0.0, "target_every": 200, "kernel_layers": 1},
        **{"segment": None, "batch": 32, "buffer": 5000, "updates": 1},
    },
    # Hu et al. 2021, fine-tuned: eight worlds, an update on 128 episodes after each eight. For 10.05M steps, with `worlds` 8.
    "pymarl2": {
        **{"optimiser": "adam", "lr": 1e-3, "eps_steps": 100_000, "td_lambda": 0.6, "target_every": 25},
        **{"segment": None, "batch": 128, "buffer": 5000, "updates": 1},
    },
}
"""Published recipes. Where they count episodes, segments as long as the world's episode limit take their place."""

OPTIMISERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "rmsprop": lambda lr: optax.rmsprop(lr, decay=0.99, eps=1e-5, eps_in_sqrt=False),
}


def optimiser_of(settings: QSettings, name: str, lr: float) -> optax.GradientTransformation:
    """An optimiser behind the limit on the gradient's norm.

    Raises:
        UnknownName: there is no such optimiser.
    """
    if name not in OPTIMISERS:
        raise unknown("optimiser", name, OPTIMISERS)
    return optax.chain(optax.clip_by_global_norm(settings.max_grad_norm), OPTIMISERS[name](lr))


class QParams(NamedTuple):
    """What is learned."""

    agent: Agent
    mixer: Mixer
    critic: Any = None
    """what the loss needs besides; a critic with an `agent` of its own is carried along while the first one acts"""


class Online(NamedTuple):
    """What the learning agent makes of a segment, and the joint actions on which its returns are built."""

    values: Values
    best: Int[Array, "L B N"]
    """u': each agent's greedy action, unless others than the agents that learn are to act"""


Loss = Callable[[QParams, QParams, Segment, Online, PRNGKeyArray, QSettings], tuple[Float[Array, ""], dict[str, Array]]]
Auxiliary = Callable[[QParams, Segment, PRNGKeyArray, Array], tuple[Float[Array, ""], dict[str, Array]]]
"""(params, segment, the loss's key, environment steps so far) -> what an agent of its own kind adds to the loss, and metrics"""


@dataclass(frozen=True)
class Base:
    """A way to join the agents' values."""

    summary: str
    mixer: Callable[[EnvSpec, QSettings, PRNGKeyArray], Mixer]
    loss: Loss
    critic: Callable[[EnvSpec, QSettings, int, PRNGKeyArray], Any] = field(default=lambda spec, settings, width, key: None)
    """(spec, settings, size of the agents' recurrent state, key) -> `QParams.critic`"""
    recurrent_critic: bool = False
    """the critic has an `agent` with a recurrent state, which is carried along while the first one acts"""
    needs: tuple[str, ...] = ()
    """what a world has to offer, by its name in `OFFERS`"""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """settings in which the source differs from the others"""


OFFERS: dict[str, tuple[str, Callable[[EnvSpec], bool]]] = {
    "state": ("a global state", lambda spec: spec.state_dim > 0),
    "own slots": (
        "every agent's own part of the state, all of one size",
        lambda spec: spec.state_slots is not None and len({stop - start for start, stop in spec.state_slots}) == 1,
    ),
}


class Lagged(NamedTuple):
    """What the loss compares against."""

    params: QParams
    steps: Int[Array, ""]
    """environment steps so far, for schedules"""


@dataclass(frozen=True)
class QLearning(Algorithm):
    """An algorithm whose loss can be asked for more: a student may learn beside it."""

    study: Callable[..., tuple[Float[Array, ""], dict[str, Array], Values]] = field(kw_only=True)
    """(params, target, segment, key, best=None) -> (loss, metrics, the learning agent's values); `best` [L, B, N]: the actions on
    which returns are built, None: the agent's own"""


def q_learning(
    spec: EnvSpec,
    settings: QSettings,
    base: Base,
    make_agent: Callable[[PRNGKeyArray], Agent],
    view: tuple[str, ...],
    auxiliary: Auxiliary | None = None,
) -> QLearning:
    """Q-learning with any agent on any base; `view` names what the agent may look at.

    Raises:
        UnknownName: there is no such optimiser.
    """
    optimiser = optimiser_of(settings, settings.optimiser, settings.lr)
    width = jax.eval_shape(make_agent, jax.random.key(0)).carry_dim

    def init(key: PRNGKeyArray) -> QParams:
        key_agent, key_mixer = jax.random.split(key)
        critic = base.critic(spec, settings, width, jax.random.fold_in(key, 2))
        return QParams(make_agent(key_agent), base.mixer(spec, settings, key_mixer), critic)

    def study(
        params: QParams, target: Lagged, segment: Segment, key: PRNGKeyArray, best: Array | None = None
    ) -> tuple[Array, dict[str, Array], Values]:
        online = online_of(params.agent, segment, online_key(key), best)
        found, metrics = base.loss(params, target.params, segment, online, jax.random.split(key)[1], settings)
        if auxiliary is not None:
            more, others = auxiliary(params, segment, key, target.steps)
            found, metrics = found + more, metrics | others
        return found, metrics, online.values

    agent_carry = start_of(spec, width)
    policy = q_policy(lambda params: params.agent, view, agent_carry)
    act, init_carry = policy.act, agent_carry
    if base.recurrent_critic:
        act, init_carry = beside(act, init_carry, lambda params: params.critic.agent, (spec.n_agents, settings.hidden))
    falling = optax.linear_schedule(settings.eps_start, settings.eps_end, settings.eps_steps)
    return QLearning(
        study=study,
        init=init,
        init_carry=init_carry,
        act=act,
        explore=lambda steps: jnp.asarray(falling(steps)),
        loss=lambda *given: study(*given)[:2],
        source=Source(
            Replay(settings.buffer, settings.batch, half=spec.unit_scale),
            settings.segment or spec.episode_limit,
            settings.updates,
            settings.learn_after,
            ahead=True,
        ),
        optimiser=optimiser,
        policies={"greedy": policy},
        init_target=lambda params: Lagged(params, jnp.zeros((), jnp.int32)),
        after_collect=lambda params, target, segment, steps: target._replace(steps=steps),
        after_update=partial(_copy_sometimes, every=settings.target_every),
    )


def _copy_sometimes(params: QParams, target: Lagged, updates: Array, every: int) -> Lagged:
    copy = partial(jnp.where, updates % every == 0)
    return target._replace(params=jax.tree.map(copy, params, target.params))


# -- what the losses are made of -------------------------------------------------------------------------------------------


def values_of(agent: Agent, segment: Segment, key: PRNGKeyArray) -> Values:
    """The agent's values at all T + 1 decisions of a segment, from the recurrent state that was stored with it."""
    carry = segment.carry0.agent if isinstance(segment.carry0, Carried) else segment.carry0
    return unroll(agent, carry, segment.decisions, key)


def online_of(agent: Agent, segment: Segment, key: PRNGKeyArray, best: Array | None = None) -> Online:
    """The learning agent's values, and its own best actions unless others are given."""
    values = values_of(agent, segment, key)
    return Online(values, best_actions(values.q, segment.decisions) if best is None else best)


def online_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """The key of the learning agent's noise in a loss that was given `key`."""
    return jax.random.split(key)[0]


def joint(values: Values, action: Int[Array, "L B N"], decisions: Decision) -> Joint:
    """A joint action at each of L decisions, as mixers and critics see it."""
    best = jnp.where(decisions.avail_actions, values.q, UNAVAILABLE).max(-1)
    return Joint(taken(values.q, action), decisions.state, best, action, values.hidden)


class Returns(NamedTuple):
    """What G values should be, and where that is known."""

    value: Float[Array, "T B G"]
    mask: Float[Array, "T B G"]


def returns_of(segment: Segment, value_next: Float[Array, "T B G"], settings: QSettings) -> Returns:
    """TD(lambda) returns of the team's reward, from the values at decisions 1 to T. No gradient."""
    reward, terminated, mask = for_each(value_next, segment.reward, segment.terminated, segment.mask)
    value_next = jax.lax.stop_gradient(value_next)
    return Returns(td_lambda(reward, value_next, terminated, mask, settings.gamma, settings.td_lambda), mask)


def td_metrics(q_tot: Float[Array, "T B G"], returns: Returns) -> dict[str, Array]:
    """How far the values are from the returns."""
    return {
        "q_taken": masked_mean(q_tot, returns.mask),
        "target": masked_mean(returns.value, returns.mask),
        "td_error": masked_mean(jnp.abs(q_tot - returns.value), returns.mask),
    }
