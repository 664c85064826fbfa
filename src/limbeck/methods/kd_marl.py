"""KD-MARL: a MAPPO team distilled into small, unlike, local students that learn without a critic (Pavel et al., arXiv 2604.06691).

A reconstruction. The paper's body could not be read. Its summary says: teachers of MAPPO, frozen with their critic; students of
their own sizes, on limited observations; advantages from the frozen critic; a loss of four named terms; off line. The equations
are ours, put together from the sources named with them; so are all weights and sizes.

    A_t      GAE(lambda) of the team's reward by the frozen critic, on what was played; standardised in each batch
    L_adv    = - mean max(min(rho A, clip(rho, 1 - c, 1 + c) A), l A if A < 0)                           (Ye et al. 2020)
               rho = pi_S(u | x_i) / behaviour(u)
    L_kl     = tau^2 mean KL( softmax(z_T / tau) || softmax(z_S / tau) )
    L_ce     = - mean log pi_S(u*),      u* the teacher's best action, or the one taken
    L_rel    = distances + angle_weight angles,      of agents' features to each other, as Huber errors  (Park et al. 2019)
    L_role   = mean 1 - cos(P_i mean e_S, mean e_T),      means over an episode's part of a chunk
    L        = the sum of these, each with its weight, - entropy_weight H

Features e are what a network's last layer reads: a GRU's state, or an MLP's second layer. Students of unlike widths are compared
with zeros in the missing places. P_i is a linear map of each student to the teacher's width; it is learned, and left behind when
the students are exported, as the critic is. What counts is living agents at decisions whose outcome is known.

l is there because the teacher is nearly sure of itself. What it did once in a thousand, to its regret, an untaught student would
do every third time: a ratio of 300, which would drown everything else.

Off line, as published, the teacher plays. Students learn from chunks of what was recorded, and nobody knows the recurrent state
that today's student would have had before one: in a chunk that begins in the middle of an episode the first `burn_in` decisions
only warm it up.

On-policy (ours), the students play. The teacher says at every decision what it would do (DAgger, Ross et al. 2011), the critic
judges what they did, rho is their new policy over the one that played, and chunks begin with the states that they had.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from limbeck.distil import OfflineSettings, match_policy, match_relations, match_roles, offline
from limbeck.errors import BadSetting, unknown
from limbeck.losses import dual_clip, entropy, inner_products, masked_mean, standardised, window_means
from limbeck.methods.mappo import PPOParams, at_chunks, in_chunks, in_time, living, raw_advantages
from limbeck.nets.agents import RecurrentAgent
from limbeck.nets.carried import beside
from limbeck.nets.critics import StateCritic, ValueNorm
from limbeck.nets.greedy import greedy, or_anything, start_of, taken
from limbeck.nets.softmax import log_policy, softmax_policy
from limbeck.nets.students import TeamSettings, make_students
from limbeck.nets.teams import Team
from limbeck.nets.unroll import early, unroll
from limbeck.replay import Dataset, Epochs
from limbeck.types import LOCAL, Algorithm, Decision, EnvSpec, Segment


@dataclass(frozen=True)
class KDMARLSettings(TeamSettings, OfflineSettings):
    """Data and optimiser; the students; the loss."""

    data: str = "offline"
    """what is learned from: offline (the teacher's play, recorded once) or on-policy (the students' own, collected ever anew)"""
    lr: float = 3e-3
    """Adam's step size"""
    updates: int = 6000
    """gradient steps in all"""
    batch: int = 32
    """chunks per gradient step (offline)"""
    rows: int = 200_000
    """decisions of one agent that are recorded (offline)"""
    epochs: int = 4
    """passes over what was collected (on-policy)"""
    minibatches: int = 4
    """gradient steps per pass (on-policy)"""
    eps: float = 0.0
    """share of actions drawn evenly while data is collected; the others are drawn from the policy of who plays"""
    max_grad_norm: float = 10.0
    """the students' gradient is scaled down to this norm"""
    chunk: int = 32
    """decisions in a row"""
    burn_in: int = 8
    """first decisions of a chunk that are not learned from, unless its episode began there (offline)"""
    gamma: float | None = None
    """discount; none: the teacher's"""
    gae_lambda: float | None = None
    """0: one-step advantages; 1: Monte Carlo; none: the teacher's"""
    adv_weight: float = 1.0
    """of the policy gradient"""
    kl_weight: float = 1.0
    """of the divergence from the teacher's policy"""
    ce_weight: float = 0.5
    """of the teacher's action"""
    relation_weight: float = 0.1
    """of distances and angles between agents"""
    angle_weight: float = 2.0
    """of angles, where distances weigh 1"""
    role_weight: float = 0.1
    """of roles"""
    entropy_weight: float = 0.0
    """what the policy's entropy is worth"""
    temperature: float = 2.0
    """of the divergence"""
    clip: float = 0.2
    """how far a probability, as a ratio, is moved by its advantage (c)"""
    ratio_limit: float = 3.0
    """ratios count as this at most, also where the advantage is negative (l)"""
    imitates: str = "best"
    """best: the teacher's most probable action; taken: the one it took"""


_BARE = KDMARLSettings(adv_weight=0.0, kl_weight=0.0, ce_weight=0.0, relation_weight=0.0, role_weight=0.0)
PRESETS = {
    "reconstruction": KDMARLSettings(),
    "on-policy": KDMARLSettings(data="on-policy", entropy_weight=0.01, lr=5e-4, updates=3000),
    "policy-only": replace(_BARE, kl_weight=1.0),
    "cloning": replace(_BARE, ce_weight=1.0, imitates="taken"),
}
"""All terms; the same on the students' own play, where steps have to be smaller; the divergence alone; behaviour cloning."""


class KDParams(NamedTuple):
    """What a distillation holds."""

    students: Team
    """learned, and all of it that is deployed"""
    roles: Float[Array, "N H K"]
    """P_i, learned: from the widest student's features to the teacher's"""
    teacher: Any
    """frozen: plays"""
    critic: Any
    """frozen: judges"""
    norm: ValueNorm


class Rows(NamedTuple):
    """Chunks of L decisions of all agents, R of them, and what the teacher had to say. The state is not among it."""

    decisions: Decision
    """[R, L, ...]"""
    action: Int[Array, "R L N"]
    log_p: Float[Array, "R L N"]
    """of the action, by the policy that was recorded"""
    advantage: Float[Array, "R L N"]
    logits: Float[Array, "R L N A"]
    relations: Float[Array, "R L N N"]
    """inner products of the teacher's features"""
    roles: Float[Array, "R W N K"]
    """means of the teacher's features over each episode's part of a chunk; W is L + 1"""
    mask: Float[Array, "R L"]
    carry: Float[Array, "R N H"] | None = None
    """the students' recurrent states before a chunk; None where they did not play, and nobody knows"""


# -- the distillation ------------------------------------------------------------------------------------------------------


def student(spec: EnvSpec, trained: Any, settings: KDMARLSettings = PRESETS["reconstruction"], **changes: Any) -> Algorithm:
    """Students of a trained MAPPO team, from its parameters. `changes` replace single settings, such as `widths="40"`.

    Raises:
        BadSetting, UnknownName: parameters that are not such a team's, or settings that make no sense.
        NotOffered: sight is to be shortened in a world that does not say what it is.
    """
    settings = replace(settings, **changes)
    if not isinstance(trained, PPOParams) or not isinstance(trained.agent, RecurrentAgent | Team):
        raise BadSetting("KD-MARL's students are distilled from a MAPPO teacher: train one first, with `limbeck train mappo`")
    _check(spec, settings)
    critic: Any = trained.critic
    width, carry_dim = trained.agent.carry_dim, critic.carry_dim
    make = partial(make_students, spec, settings, width)
    widest = jax.eval_shape(make, jax.random.key(0)).carry_dim

    def init(key: PRNGKeyArray) -> KDParams:
        key_students, key_roles = jax.random.split(key)
        roles = jax.nn.initializers.lecun_normal(batch_axis=0)(key_roles, (spec.n_agents, widest, width))
        return KDParams(make(key_students), roles, *trained)

    judges = 1 if isinstance(critic, StateCritic) else spec.n_agents
    students = softmax_policy(lambda params: params.students, LOCAL, start_of(spec, widest))
    teacher = softmax_policy(lambda params: params.teacher, LOCAL, start_of(spec, width))
    which: Any = KDParams("learn", "learn", "freeze", "freeze", "freeze")  # type: ignore[arg-type]
    rows = max(settings.rows // (spec.n_agents * settings.chunk), 1)
    # Half precision does not say for sure on which side of a shorter sight a unit is; a ratio to one's own play must begin at 1.
    half = spec.unit_scale and settings.data == "offline" and not settings.sight_range.strip()
    algorithm = offline(
        spec,
        settings,
        init=init,
        learns=which,
        label=lambda params, segment: label(params, segment, settings, half),
        loss=lambda params, target, rows, key: distil_loss(params, rows, settings),
        student=students,
        teacher=teacher,
        store=Dataset(rows, settings.batch, holdout_batch=8 * settings.batch),
        optimiser=lambda lr: optax.chain(optax.clip_by_global_norm(settings.max_grad_norm), optax.adam(lr, eps=1e-5)),
    )
    player = students if settings.data == "on-policy" else teacher

    def play(params: KDParams, carry: Array, decision: Decision, key: PRNGKeyArray, eps: Array) -> tuple[Array, Array]:
        key_own, key_coin = jax.random.split(key)
        action, carry = player.act(params, carry, decision, key_own, jnp.float32(1.0))
        return or_anything(action, decision.avail_actions, key_coin, eps), carry

    act, init_carry, source = play, player.init_carry, algorithm.source
    if settings.data == "on-policy":
        act, init_carry = beside(act, init_carry, lambda params: params.teacher, (spec.n_agents, width))
        store, updates = Epochs(settings.minibatches), settings.epochs * settings.minibatches
        source = replace(source, store=store, updates=updates, collect_until=None)
    act, init_carry = beside(act, init_carry, lambda params: params.critic, (judges, carry_dim))
    return replace(algorithm, act=act, init_carry=init_carry, source=source)


def _check(spec: EnvSpec, settings: KDMARLSettings) -> None:
    if settings.imitates not in ("best", "taken"):
        raise unknown("action to imitate", settings.imitates, ("best", "taken"))
    if settings.gamma is None or settings.gae_lambda is None:
        raise BadSetting("KD-MARL needs the gamma and the gae_lambda that the teacher was trained with")
    if settings.data not in ("offline", "on-policy"):
        raise unknown("data source", settings.data, ("offline", "on-policy"))
    if settings.data == "on-policy" and settings.imitates == "taken":
        raise BadSetting("imitates is 'taken', but on-policy the students took the actions themselves: leave it at 'best'")
    if not 0 <= settings.burn_in < settings.chunk:
        raise BadSetting(f"burn_in is {settings.burn_in}; it must be less than a chunk of {settings.chunk}")
    if not 0 <= settings.eps <= 1:
        raise BadSetting(f"eps is {settings.eps}; it must be between 0 and 1")
    least = 10 * settings.chunk * spec.n_agents
    if settings.data == "offline" and settings.rows < least:
        raise BadSetting(f"{settings.rows} rows are too few to hold some out: take at least {least}, or shorter chunks")


def label(params: KDParams, segment: Segment, settings: KDMARLSettings, half: bool) -> Rows:
    """What was played, in chunks, with all that teacher and critic say about it. `half`: observations in half precision."""
    assert settings.gamma is not None and settings.gae_lambda is not None
    key = jax.random.key(0)  # nothing here is left to chance
    seen = early(segment.decisions).within(LOCAL)
    players, of_critic = segment.carry0
    own, of_teacher = players if settings.data == "on-policy" else (None, players)
    taught = unroll(params.teacher, of_teacher, seen, key)
    played = taught if own is None else unroll(params.students, own, seen, key)
    value = params.norm.restore(unroll(params.critic, of_critic, segment.decisions, key).q[..., 0])
    advantage = raw_advantages(segment, value, settings.gamma, settings.gae_lambda)
    even = seen.avail_actions / jnp.maximum(seen.avail_actions.sum(-1, keepdims=True), 1)
    policy = (1.0 - settings.eps) * jnp.exp(log_policy(played.q, seen.avail_actions)) + settings.eps * even
    rows = Rows(
        decisions=seen._replace(obs=seen.obs.astype(jnp.float16 if half else jnp.float32)),
        roles=taught.hidden,  # until there are chunks to take means over
        action=segment.action,
        log_p=jnp.log(jnp.maximum(taken(policy, segment.action), 1e-30)),
        advantage=jnp.broadcast_to(advantage, segment.action.shape),
        logits=taught.q,
        relations=inner_products(taught.hidden),
        mask=segment.mask,
    )
    cut = in_chunks(rows, settings.chunk)
    if own is not None:
        cut = cut._replace(carry=at_chunks(own, played.hidden, settings.chunk))
    late = in_time(cut)
    means, _ = window_means(late.roles, counted(late, settings), late.decisions.is_first, settings.chunk + 1)
    return cut._replace(roles=jnp.swapaxes(means, 0, 1).astype(jnp.float16))  # between -1 and 1


def counted(rows: Rows, settings: KDMARLSettings) -> Float[Array, "L R N"]:
    """What counts of rows with time before chunks."""
    trusted = 1.0 if rows.carry is not None else warm(rows.decisions.is_first, settings.burn_in)
    return living(rows.decisions, rows.mask * trusted)


def warm(is_first: Bool[Array, "L R"], burn_in: int) -> Bool[Array, "L R"]:
    """Where a recurrent state that was zero at the beginning of a chunk can be trusted."""
    late_enough = (jnp.arange(is_first.shape[0]) >= burn_in)[:, None]
    return (jnp.cumsum(is_first, 0) > 0) | jnp.broadcast_to(late_enough, is_first.shape)


def distil_loss(params: KDParams, rows: Rows, settings: KDMARLSettings) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The students on a batch of chunks. Only `students` and `roles` get a gradient."""
    rows = in_time(rows)
    seen, start = rows.decisions, rows.carry
    if start is None:
        start = jnp.zeros((*seen.alive.shape[1:], params.students.carry_dim))
    own = unroll(params.students, start, seen, jax.random.key(0))
    return composite(own.q, own.hidden, params.roles, rows, counted(rows, settings), settings)


def composite(
    logits: Float[Array, "L R N A"],
    features: Float[Array, "L R N H"],
    roles: Float[Array, "N H K"],
    rows: PyTree,
    weight: Float[Array, "L R N"],
    settings: KDMARLSettings,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """All terms from what the students put out; `rows` with time before chunks."""
    avail = rows.decisions.avail_actions
    log_p = log_policy(logits, avail)
    best = greedy(rows.logits, avail)
    imitated = best if settings.imitates == "best" else rows.action
    advantage = standardised(rows.advantage, weight)
    clipped = dual_clip(taken(log_p, rows.action) - rows.log_p, advantage, settings.clip, settings.ratio_limit)
    apart, bent = match_relations(inner_products(features), rows.relations, weight)
    found = {
        "adv": -masked_mean(clipped, weight),
        "kl": settings.temperature**2 * masked_mean(match_policy(logits, rows.logits, avail, settings.temperature), weight),
        "ce": -masked_mean(taken(log_p, imitated), weight),
        "relation": apart + settings.angle_weight * bent,
        "role": match_roles(features, roles, rows.roles, weight, rows.decisions.is_first),
    }
    disorder = masked_mean(entropy(log_p), weight)
    total = sum(getattr(settings, f"{name}_weight") * each for name, each in found.items())
    metrics = {f"loss_{name}": each for name, each in found.items()}
    agree = masked_mean((greedy(logits, avail) == best).astype(jnp.float32), weight)
    return total - settings.entropy_weight * disorder, metrics | {"entropy": disorder, "agreement": agree}
