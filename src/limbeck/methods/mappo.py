"""MAPPO and IPPO: clipped policy gradients for a team (Yu et al. 2022; de Witt et al. 2020; PPO: Schulman et al. 2017).

    pi(u | tau_i)             softmax over the available actions, of a recurrent agent's logits
    V(s), or V(tau_i)         MAPPO: one value for the team; IPPO: one for each agent, from what that agent sees
    A_t                       GAE(lambda) of the team's reward, standardised over living agents
    L_pi  = - mean min(rho A, clip(rho, 1 - c, 1 + c) A) - entropy_weight * mean H(pi),      rho = pi / pi_old
    L_V   = mean max(huber(y - V), huber(y - V_clipped)),      y = A + V_old, on the scale on which values are learned

Once an iteration, `prepare` computes with the parameters that collected all that the updates compare against: log-probabilities,
values, advantages, and the recurrent states from which chunks of `chunk` decisions are learned. Then come `epochs` passes over
all chunks, each in `minibatches` updates.

Truncation. After the time limit the next decision is another episode's, and nobody has seen the one that would have been. So
that transition is not learned from, and the value of the decision before it stands for the future (see `losses.gae`): nothing is
taken for a termination, and one transition of a truncated episode is lost.

Death. A dead agent's policy is not learned from. Its local critic is: what that says of the dead is what the living one's last
advantage is built on. It sees what the world shows of the dead (zeros in battles), the last action and the agent's name.

Ours: PyMARL's networks without LayerNorm, and its inputs, last action and name included. MAPPO's value is one number for the team,
where the authors' code has one per agent with a state of its own; the reward is the team's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from limbeck.distil import apart
from limbeck.errors import NotOffered, unknown
from limbeck.losses import clipped_value_loss, entropy, for_each, gae, masked_mean, ppo_clip, standardised
from limbeck.nets.agents import Agent, Recurrent, RecurrentAgent
from limbeck.nets.carried import Carried, beside
from limbeck.nets.coarse import multiplied_in
from limbeck.nets.critics import LocalCritic, StateCritic, ValueNorm
from limbeck.nets.greedy import start_of, taken
from limbeck.nets.softmax import log_policy, softmax_policy
from limbeck.nets.teams import Team, one_each
from limbeck.nets.unroll import early, unroll
from limbeck.replay import Epochs
from limbeck.types import LOCAL, Algorithm, Decision, EnvSpec, Segment, Source


@dataclass(frozen=True)
class MAPPOSettings:
    """What clipped policy gradients can be told."""

    critic: str = "state"
    """what values are read from: state (MAPPO: one for the team) or local (IPPO: one for each agent)"""
    shared: bool = True
    """all agents share one network; no: each has its own, and its own local critic"""
    hidden: int = 64
    """units of the recurrent states of agents and critic (H)"""
    gamma: float = 0.99
    """discount"""
    gae_lambda: float = 0.95
    """0: one-step advantages; 1: Monte Carlo"""
    lr: float = 5e-4
    """Adam's step size, for the agents"""
    critic_lr: float = 5e-4
    """Adam's step size, for the critic"""
    max_grad_norm: float = 10.0
    """the agents' gradient, and the critic's, are scaled down to this norm"""
    clip: float = 0.2
    """how far probabilities, as a ratio, and values may be moved by the updates of one iteration (c)"""
    entropy_weight: float = 0.01
    """what the policy's entropy is worth"""
    huber: float = 10.0
    """where the critic's loss becomes straight, in standard deviations of the returns"""
    value_beta: float = 0.99999
    """how slowly the scale of the values moves, per update"""
    out_gain: float = 0.01
    """size of the first logits: small, so that all actions are tried at first"""
    segment: int | None = 128
    """transitions collected in every world before it is learned from them (T); none: the world's episode limit"""
    chunk: int = 10
    """decisions in a row through which gradients flow"""
    epochs: int = 4
    """passes over what was collected"""
    minibatches: int = 4
    """updates per pass"""
    products: str = "float32"
    """what networks multiply in while they learn: float32, or bfloat16 (sums are float32), faster where processors know it"""


DEFAULTS = MAPPOSettings()
_SCRIPT = {"segment": 400, "epochs": 5, "minibatches": 1}
_BATTLE = {"chunk": 16, "epochs": 5, "minibatches": 8, "lr": 1e-3, "critic_lr": 1e-3}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _SCRIPT,
    "paper-2s_vs_1sc": _SCRIPT | {"epochs": 15},
    "paper-3s_vs_5z": _SCRIPT | {"epochs": 15, "clip": 0.05},
    "paper-5m_vs_6m": _SCRIPT | {"epochs": 10, "clip": 0.05},
    "paper-MMM2": _SCRIPT | {"minibatches": 2, "out_gain": 1.0},
    "battle": _BATTLE,
    "expert": _BATTLE | {"hidden": 256, "lr": 5e-4, "critic_lr": 5e-4},
}
"""The authors' scripts for SMAC, for 10M steps with `worlds` 8. On 3s_vs_5z they also stack four observations; here nothing is.
Ours: `battle`, for some 100,000 steps with 32 worlds, learns more from each of them; `expert`, wide, is a teacher for KD-MARL."""

CRITICS: dict[str, Callable[[EnvSpec, int, PRNGKeyArray], Recurrent]] = {"state": StateCritic, "local": LocalCritic}


class PPOParams(NamedTuple):
    """What is learned."""

    agent: Agent
    critic: Agent
    norm: ValueNorm


class Rows(NamedTuple):
    """Chunks of L transitions, R of them, and what the parameters that collected them had to say. [R, L, ...]."""

    decisions: Decision
    action: Int[Array, "R L N"]
    log_p: Float[Array, "R L N"]
    advantage: Float[Array, "R L N"]
    value: Float[Array, "R L G"]
    """as the critic put it out"""
    returns: Float[Array, "R L G"]
    mask: Float[Array, "R L"]
    carry: Carried
    """[R, ...]: before the first decision"""


def build(spec: EnvSpec, settings: MAPPOSettings = DEFAULTS, **changes: Any) -> Algorithm:
    """MAPPO, or with `critic="local"` IPPO. `changes` replace single settings, such as `clip=0.05`.

    Raises:
        UnknownName: there is no such critic.
        NotOffered: the critic reads a state, and the world has none.
    """
    settings = replace(settings, **changes)
    return learn(spec, settings, _alike(RecurrentAgent, spec, settings), LOCAL)


def learn(spec: EnvSpec, settings: MAPPOSettings, make_agent: Callable[[PRNGKeyArray], Any], view: tuple[str, ...]) -> Algorithm:
    """Clipped policy gradients for any agent that puts out logits and does so without chance: the same again when asked again.

    Raises:
        UnknownName: there is no such critic, or there are no such products.
        BadSetting: products that the agent cannot be multiplied in.
        NotOffered: the critic reads a state, and the world has none.
    """
    if settings.critic not in CRITICS:
        raise unknown("critic", settings.critic, CRITICS)
    local = settings.critic == "local"
    if not local and not spec.state_dim:
        what = f"MAPPO's critic reads a global state, which {spec.name} does not offer"
        raise NotOffered(what, lambda other: other.state_dim > 0, "a local critic fits: ippo")
    form = jax.eval_shape(make_agent, jax.random.key(0))
    multiplied_in(settings.products, form)  # what it cannot be multiplied in is refused here, not when training begins
    width = form.carry_dim
    make_critic = CRITICS[settings.critic]
    make = _alike(make_critic, spec, settings) if local else lambda key: make_critic(spec, settings.hidden, key)

    def init(key: PRNGKeyArray) -> PPOParams:
        key_agent, key_critic, key_out = jax.random.split(key, 3)
        return PPOParams(quiet(make_agent(key_agent), settings.out_gain, key_out), make(key_critic), ValueNorm.fresh())

    judges = spec.n_agents if local else 1
    policy = softmax_policy(lambda params: params.agent, view, start_of(spec, width))

    act, init_carry = beside(policy.act, policy.init_carry, lambda params: params.critic, (judges, settings.hidden))

    def adam(lr: float) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(settings.max_grad_norm), optax.adam(lr, eps=1e-5))

    return Algorithm(
        init=init,
        init_carry=init_carry,
        act=act,
        explore=lambda steps: jnp.float32(1.0),
        loss=lambda params, target, rows, key: ppo_loss(params, rows, settings),
        source=Source(
            Epochs(settings.minibatches),
            settings.segment or spec.episode_limit,
            updates=settings.epochs * settings.minibatches,
            prepare=lambda params, segment: prepare(params, segment, settings),
        ),
        optimiser=apart(PPOParams, agent=adam(settings.lr), critic=adam(settings.critic_lr), norm=optax.sgd(1.0)),
        policies={"greedy": policy},
        init_target=lambda params: (),
    )


def _alike(make: Any, spec: EnvSpec, settings: MAPPOSettings) -> Callable[[PRNGKeyArray], Any]:
    """One network for all agents, or one for each."""
    if settings.shared:
        return lambda key: make(spec, settings.hidden, key)
    return lambda key: one_each(tuple(make(spec, settings.hidden, k) for k in jax.random.split(key, spec.n_agents)))


def quiet(agent: Any, gain: float, key: PRNGKeyArray) -> Any:
    """The agent, or each network of a team, with an orthogonal last layer of this size and no bias: logits that say little."""
    if isinstance(agent, Team):
        keys = jax.random.split(key, len(agent.nets))
        return Team(tuple(quiet(net, gain, k) for net, k in zip(agent.nets, keys, strict=True)), agent.places)
    weight = jax.nn.initializers.orthogonal(gain)(key, agent.out.weight.shape)
    return eqx.tree_at(lambda net: (net.out.weight, net.out.bias), agent, (weight, jnp.zeros_like(agent.out.bias)))


# -- what is learned from --------------------------------------------------------------------------------------------------


def prepare(params: PPOParams, segment: Segment, settings: MAPPOSettings) -> Rows:
    """What was collected, in chunks, with all that the updates compare against."""
    key = jax.random.key(0)  # nothing here is left to chance
    seen = early(segment.decisions)
    agent, critic = (multiplied_in(settings.products, net) for net in (params.agent, params.critic))
    acted = unroll(agent, segment.carry0.agent, seen, key)
    judged = unroll(critic, segment.carry0.critic, segment.decisions, key)
    value = judged.q[..., 0]
    advantage, returns = advantages(segment, params.norm.restore(value), settings)
    hiddens = zip(segment.carry0, (acted.hidden, judged.hidden), strict=True)
    rows = Rows(
        decisions=seen,
        action=segment.action,
        log_p=taken(log_policy(acted.q, seen.avail_actions), segment.action),
        advantage=advantage,
        value=early(value),
        returns=returns,
        mask=segment.mask,
        carry=Carried(*(at_chunks(first, hidden, settings.chunk) for first, hidden in hiddens)),
    )
    return in_chunks(rows._replace(carry=()), settings.chunk)._replace(carry=rows.carry)


def advantages(segment: Segment, value: Float[Array, "L B G"], settings: MAPPOSettings) -> tuple[Array, Array]:
    """(advantages [T, B, N], standardised over the living; returns [T, B, G]) from values on the scale of returns."""
    found = raw_advantages(segment, value, settings.gamma, settings.gae_lambda)
    counts = living(early(segment.decisions), segment.mask)
    return standardised(jnp.broadcast_to(found, counts.shape), counts), found + value[:-1]


def raw_advantages(segment: Segment, value: Float[Array, "L B G"], gamma: float, gae_lambda: float) -> Float[Array, "T B G"]:
    """The team's reward against each of the values, on the scale of returns."""
    reward, terminated, mask = for_each(value[1:], segment.reward, segment.terminated, segment.mask)
    return gae(reward, value, terminated, mask, gamma, gae_lambda)


def living(decisions: Decision, mask: Float[Array, "*b"]) -> Float[Array, "*b N"]:
    """1 where an agent was alive and what followed is known."""
    return decisions.alive * mask[..., None]


def in_chunks(rows: Any, length: int) -> Any:
    """A record with a `mask`: [T, B, ...] -> [R, length, ...]. The last chunks are filled up with mask 0."""
    cuts = jax.tree.map(lambda x: _cut(x, x[-1:], length), rows._replace(mask=()))
    return cuts._replace(mask=_cut(rows.mask, jnp.zeros_like(rows.mask[-1:]), length))


def in_time(rows: Any) -> Any:
    """A record of chunks: [R, L, ...] -> [L, R, ...], but for the `carry` before them, which stays [R, ...]."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows._replace(carry=None))._replace(carry=rows.carry)


def at_chunks(carry0: Float[Array, "B N H"], hidden: Float[Array, "T B N H"], length: int) -> Float[Array, "R N H"]:
    """The recurrent states before each of these chunks, from those before and after every decision."""
    before = jnp.concatenate([carry0[None], hidden[:-1]])[::length]
    return before.reshape(-1, *before.shape[2:])


def _cut(x: Array, fill: Array, length: int) -> Array:
    """[T, B, ...] -> [R, length, ...], chunk after chunk; `fill` [1, B, ...] stands where the last ones are not full."""
    x = jnp.concatenate([x, jnp.repeat(fill, -x.shape[0] % length, 0)])
    x = x.reshape(-1, length, *x.shape[1:])
    return jnp.moveaxis(x, 2, 1).reshape(-1, length, *x.shape[3:])


def ppo_loss(params: PPOParams, rows: Rows, settings: MAPPOSettings) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Policy and critic on a minibatch of chunks. The value's scale moves too: by its gradient, whose step is of size 1."""
    key = jax.random.key(0)
    rows = in_time(rows)
    seen, alive = rows.decisions, living(rows.decisions, rows.mask)
    agent, critic = (multiplied_in(settings.products, net) for net in (params.agent, params.critic))
    log_p = log_policy(unroll(agent, rows.carry.agent, seen, key).q, seen.avail_actions)
    log_ratio = taken(log_p, rows.action) - rows.log_p
    gain = masked_mean(ppo_clip(log_ratio, rows.advantage, settings.clip), alive)
    disorder = masked_mean(entropy(log_p), alive)
    value = unroll(critic, rows.carry.critic, seen, key).q[..., 0]
    mask = jnp.broadcast_to(rows.mask[..., None], value.shape)
    norm = jax.lax.stop_gradient(params.norm.after(rows.returns, mask, settings.value_beta))
    errors = clipped_value_loss(value, rows.value, norm.shrink(rows.returns), settings.clip, settings.huber)
    value_loss = masked_mean(errors, mask)
    # Half a square, so that the optimiser's step is the moving average's; on several devices, the average of theirs.
    moved = sum(0.5 * (old - new) ** 2 for old, new in zip(params.norm, norm, strict=True))
    spread = masked_mean((rows.returns - masked_mean(rows.returns, mask)) ** 2, mask)
    metrics = {
        "policy_gain": gain,
        "entropy": disorder,
        "value_loss": value_loss,
        "clipped": masked_mean((jnp.abs(jnp.expm1(log_ratio)) > settings.clip).astype(jnp.float32), alive),
        "kl": masked_mean(jnp.expm1(log_ratio) - log_ratio, alive),
        "unexplained": masked_mean((norm.restore(value) - rows.returns) ** 2, mask) / jnp.maximum(spread, 1e-8),
    }
    return value_loss - gain - settings.entropy_weight * disorder + moved, metrics
