"""What distillation methods share. A method is a choice of

    target     what of the teacher is matched: latents, values, policies, greedy actions, features
    loss       by which measure: squared error, KL divergence, regression on one-hot vectors
    data       who plays while data is collected: the teacher, the student, or a mixture
    schedule   a frozen teacher, off line (`offline`); or both learning at once on the same batches (`together`)

    method        target                      loss               data       schedule
    PTDE          latent mean                 squared error      teacher    off line
    CTDS          values of all actions       squared error      teacher    together
    IGM-DA        the expert's greedy action  one-hot regression student    together, returns follow the student's actions
    IGM-BC        the same                    the same           teacher    together
    DDN           block output, values,       squared error, KL  teacher    together
                  first layer
    KD-MARL       policy, best action,        KL, cross-entropy, teacher,   off line, or on-policy
                  relations, roles            Huber, cosine      or student

The matching losses are sums over what one agent outputs, `[..., N]`; `over_agents` makes them one number. Teachers never get a
gradient from them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from limbeck.errors import NotOffered, unknown
from limbeck.losses import agents_first, angles, distances, huber, mapped_cosine, masked_mean, pairs_of, triples_of, window_means
from limbeck.nets.agents import Agent
from limbeck.nets.greedy import UNAVAILABLE, best_actions, greedy, q_policy, start_of
from limbeck.nets.unroll import Values, early, unroll
from limbeck.replay import Dataset
from limbeck.types import LOCAL, Algorithm, Decision, EnvSpec, Policy, Segment, Source

# -- targets and losses ----------------------------------------------------------------------------------------------------


def match_latent(guess: Float[Array, "*b Z"], target: Float[Array, "*b Z"]) -> Float[Array, "*b"]:
    """Sum of squares over the numbers of a latent."""
    return ((jax.lax.stop_gradient(target) - guess) ** 2).sum(-1)


def match_q(
    q: Float[Array, "*b A"], target: Float[Array, "*b A"], avail_actions: Bool[Array, "*b A"] | None = None
) -> Float[Array, "*b"]:
    """Sum of squares over the values of the available actions; of all actions if None."""
    error = (q - jax.lax.stop_gradient(target)) ** 2
    return error.sum(-1) if avail_actions is None else jnp.where(avail_actions, error, 0.0).sum(-1)


def match_action(
    q: Float[Array, "*b A"],
    target: Float[Array, "*b A"],
    avail_actions: Bool[Array, "*b A"],
    only_available: bool = True,
) -> Float[Array, "*b"]:
    """Squares of q - onehot(the target's greedy available action), as a mean over the actions that count."""
    chosen = jax.nn.one_hot(greedy(jax.lax.stop_gradient(target), avail_actions), q.shape[-1])
    counts = avail_actions if only_available else jnp.ones_like(avail_actions)
    return jnp.where(counts, (q - chosen) ** 2, 0.0).sum(-1) / jnp.maximum(counts.sum(-1), 1)


def match_policy(
    q: Float[Array, "*b A"],
    target: Float[Array, "*b A"],
    avail_actions: Bool[Array, "*b A"] | None = None,
    temperature: float = 1.0,
) -> Float[Array, "*b"]:
    """KL( softmax(target / T) || softmax(q / T) ), over the available actions; over everything if None."""
    if avail_actions is not None:
        q, target = (jnp.where(avail_actions, each, UNAVAILABLE) for each in (q, target))
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(target) / temperature)
    log_q = jax.nn.log_softmax(q / temperature)
    p = jnp.exp(log_p)
    return (p * jnp.where(p > 0, log_p - log_q, 0.0)).sum(-1)


def match_relations(
    products: Float[Array, "*b N N"], target: Float[Array, "*b N N"], weight: Float[Array, "*b N"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(error of the distances between agents, error of the angles among them): Huber losses of relational distillation (Park et al.
    2019), as means over the pairs and triples of agents that all count. Two agents have no angles: 0.

    Both come as `inner_products` of features, whose sizes may differ; turning or scaling the features changes nothing.
    """
    products, target, weight = agents_first(products, 2), agents_first(jax.lax.stop_gradient(target), 2), agents_first(weight, 1)
    pairs, triples = pairs_of(weight), triples_of(weight)
    of_pairs = huber(distances(products, pairs) - distances(target, pairs), 1.0)
    return masked_mean(of_pairs, pairs), masked_mean(huber(angles(products) - angles(target), 1.0), triples)


FEW = 8
"""parts of episodes in a chunk that are worth a program of their own: hardly a chunk has more, and one for as many as there can be
takes four times as long"""


def match_roles(
    features: Float[Array, "L *b N H"],
    roles: Float[Array, "N H K"],
    target: Float[Array, "W *b N K"],
    weight: Float[Array, "L *b N"],
    is_first: Bool[Array, "L *b"],
) -> Float[Array, ""]:
    """1 - cosine of what both are on average over L decisions, or an episode's part of them: what varies slowly in a behaviour.

    `roles` is each agent's linear map from its features to the target's. The target comes as `window_means` of all L + 1 windows
    (W). A mean over decisions that count, of agents that count.
    """
    target = jax.lax.stop_gradient(target)

    def compare(windows: int) -> Array:
        own, total = window_means(features, weight, is_first, windows)
        # Agents lead: what one map multiplies lies in a row.
        own, taught, total = jnp.moveaxis(own, -2, 0), jnp.moveaxis(target[:windows], -2, 0), jnp.moveaxis(total, -1, 0)
        return masked_mean(1.0 - mapped_cosine(own, roles, taught.astype(jnp.float32)), total)

    longest = features.shape[0] + 1
    if longest <= FEW:
        return compare(longest)
    return jax.lax.cond(is_first.sum(0).max() < FEW, partial(compare, FEW), partial(compare, longest))


def over_agents(error: Float[Array, "*b N"], counts: Bool[Array, "*b N"], mean: bool = True) -> Float[Array, ""]:
    """Mean over decisions of the mean, or sum, over the agents that count."""
    counts = counts.astype(jnp.float32)
    if mean:
        return masked_mean(error, counts)
    return (error * counts).sum(-1).mean()


# -- a frozen teacher, off line --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfflineSettings:
    """How a student learns from what its frozen teacher was seen to do."""

    lr: float = 1e-3
    """Adam's step size"""
    lr_end: float = 1e-5
    """the step size falls to this along a cosine; equal to `lr`: constant"""
    updates: int = 60_000
    """gradient steps in all"""
    batch: int = 2048
    """rows per gradient step"""
    rows: int = 600_000
    """decisions of one agent that are recorded"""
    eps: float = 0.05
    """share of random actions while the teacher is recorded"""
    segment: int = 128
    """transitions per world between two writes"""


def offline(
    spec: EnvSpec,
    settings: OfflineSettings,
    *,
    init: Callable[[PRNGKeyArray], PyTree],
    learns: PyTree,
    label: Callable[[PyTree, Segment], Any],
    loss: Callable[[PyTree, PyTree, Any, PRNGKeyArray], tuple[Array, dict[str, Array]]],
    student: Policy,
    teacher: Policy,
    store: Dataset | None = None,
    optimiser: Callable[[optax.Schedule], optax.GradientTransformation] = optax.adam,
) -> Algorithm:
    """The teacher plays until there are enough rows; then the student is fitted to them.

    Args:
        spec: the world.
        settings: data and optimiser.
        init: key -> student and teacher.
        learns: the same tree, or the top of it, with "learn" or "freeze" at its leaves.
        label: (params, segment) -> rows [R, ...], one per agent and decision, unless the store says otherwise.
        loss: on a batch of rows.
        student: who is judged first.
        teacher: who is judged second, and plays.
        store: where rows go; by default there is room for `settings.rows` of them.
        optimiser: of what learns, given its step size's schedule.
    """
    schedule = optax.cosine_decay_schedule(settings.lr, settings.updates, settings.lr_end / settings.lr)
    return Algorithm(
        init=init,
        init_carry=teacher.init_carry,
        act=teacher.act,
        explore=lambda steps: jnp.float32(settings.eps),
        loss=loss,
        source=Source(
            store or Dataset(settings.rows, settings.batch),
            settings.segment,
            updates=min(100, settings.updates),
            collect_until=-(-settings.rows // spec.n_agents),
            total_updates=settings.updates,
            prepare=label,
        ),
        optimiser=optax.multi_transform({"learn": optimiser(schedule), "freeze": optax.set_to_zero()}, learns),
        policies={"student": student, "teacher": teacher},
        init_target=lambda params: (),
    )


# -- both at once ----------------------------------------------------------------------------------------------------------


class Taught(NamedTuple):
    """A teacher, whatever its method calls its parameters, and the student that learns beside it."""

    teacher: PyTree
    student: Agent


class Both(NamedTuple):
    """The recurrent states of both. That of a student who only looks on stands still until a segment is complete."""

    teacher: PyTree
    student: Float[Array, "B N H"]
    taught: Bool[Array, "B"] | None = None
    """where the teacher plays, if each plays in one half of the worlds; a world's own, so that the worlds can be parted at will"""


Match = Callable[[Values, Values, Decision], tuple[Float[Array, ""], dict[str, Array]]]
"""(student's values, teacher's without a gradient, the T decisions that they are about) -> loss and metrics"""
COLLECTORS = ("teacher", "student", "mix")


@dataclass(frozen=True)
class Student:
    """A student that learns while its teacher does."""

    make: Callable[[PRNGKeyArray], Agent]
    match: Match
    optimiser: optax.GradientTransformation
    collects: str = "teacher"
    """who plays while data is collected: teacher, student, or mix: each of them in half of the worlds"""
    chooses: bool = False
    """the teacher's returns are built on the student's greedy actions, which are those that will be played"""


def together(spec: EnvSpec, teacher: Any, student: Student, view: tuple[str, ...] = LOCAL) -> Algorithm:
    """A teacher and its student on the same batches, each with its own optimiser.

    Args:
        spec: the world.
        teacher: an algorithm with a `study`, see `methods/q_learning.py`.
        student: what learns from it.
        view: what the student may look at.

    Raises:
        UnknownName: nobody of that name can collect.
    """
    if student.collects not in COLLECTORS:
        raise unknown("collector", student.collects, COLLECTORS)
    width = jax.eval_shape(student.make, jax.random.key(0)).carry_dim
    by_student = q_policy(lambda params: params.student, view, start_of(spec, width))
    by_teacher = teacher.policies[teacher.main]

    def init(key: PRNGKeyArray) -> Taught:
        return Taught(teacher.init(key), student.make(jax.random.fold_in(key, 3)))

    def init_carry(worlds: int) -> Both:
        first_half = jnp.arange(worlds) < (worlds + 1) // 2
        return Both(teacher.init_carry(worlds), by_student.init_carry(worlds), first_half if student.collects == "mix" else None)

    def act(params: Taught, carry: Both, decision: Decision, key: PRNGKeyArray, eps: Array) -> tuple[Array, Both]:
        key_teacher, key_student = jax.random.split(key)
        taught, of_teacher = teacher.act(params.teacher, carry.teacher, decision, key_teacher, eps)
        if student.collects == "teacher":
            return taught, carry._replace(teacher=of_teacher)
        learned, of_student = by_student.act(params, carry.student, decision, key_student, eps)
        action = learned if carry.taught is None else jnp.where(carry.taught[:, None], taught, learned)
        return action, carry._replace(teacher=of_teacher, student=of_student)

    def loss(params: Taught, target: PyTree, segment: Segment, key: PRNGKeyArray) -> tuple[Array, dict[str, Array]]:
        seen = segment.decisions
        own = unroll(params.student, segment.carry0.student, seen, jax.random.fold_in(key, 3))
        best = best_actions(own.q, seen) if student.chooses else None
        of_teacher = segment._replace(carry0=segment.carry0.teacher)
        found, metrics, values = teacher.study(params.teacher, target, of_teacher, key, best)
        distance, more = student.match(early(own), early(jax.lax.stop_gradient(values)), early(seen))
        return found + distance, metrics | {"distil_loss": distance} | more

    return Algorithm(
        init=init,
        init_carry=init_carry,
        act=act,
        explore=teacher.explore,
        loss=loss,
        source=replace(teacher.source, ahead=teacher.source.ahead and student.collects != "teacher"),
        optimiser=apart(Taught, teacher=teacher.optimiser, student=student.optimiser),
        policies={"student": by_student, "teacher": part_of(by_teacher, lambda params: params.teacher)},
        judged=("student", "teacher"),
        init_target=lambda params: teacher.init_target(params.teacher),
        catch_up=_reads_at_once if student.collects == "teacher" else Algorithm.catch_up,
        after_collect=lambda params, target, segment, steps: teacher.after_collect(params.teacher, target, segment, steps),
        after_update=lambda params, target, updates: teacher.after_update(params.teacher, target, updates),
    )


def _reads_at_once(params: Taught, carry: Both, segment: Segment) -> Both:
    """A student that only looked on reads a segment as a whole, not decision by decision. There is no chance in students."""
    read = unroll(params.student, segment.carry0.student, early(segment.decisions), jax.random.key(0))
    return carry._replace(student=read.hidden[-1])


def part_of(policy: Policy, part: Callable[[PyTree], PyTree]) -> Policy:
    """A policy of something that has become a part of larger parameters."""
    return Policy(
        act=lambda params, carry, decision, key, explore: policy.act(part(params), carry, decision, key, explore),
        view=policy.view,
        agent=lambda params: policy.agent(part(params)),
        init_carry=policy.init_carry,
    )


def apart(record: Callable[..., Any], **optimisers: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimiser for each field of a record, none of which sees the gradients of another."""

    def init(params: Any) -> dict[str, Any]:
        return {name: each.init(getattr(params, name)) for name, each in optimisers.items()}

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, dict[str, Any]]:
        steps, states = {}, {}
        for name, each in optimisers.items():
            steps[name], states[name] = each.update(getattr(updates, name), state[name], getattr(params, name))
        return record(**steps), states

    return optax.GradientTransformation(init, update)


def shows_everything(spec: EnvSpec, who: str) -> None:
    """Raises NotOffered unless the world shows what agents would see if nothing were hidden from them."""
    if not spec.full_obs:
        what = f"{who} reads what the agents would see if nothing were hidden, and {spec.name} does not offer that"
        raise NotOffered(what, lambda other: other.full_obs, "ddn and ptde read the global state instead")
