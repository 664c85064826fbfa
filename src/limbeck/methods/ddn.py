"""DDN: double distillation network (Zhou et al., arXiv 2502.03125, 2025). No public code; what is reconstructed is said below.

    guide     S_i = s W(x_i) + B(x_i)              personalisation fusion block; F = ReLU(Linear(S_i)), GRU, Q_i^G; any mixer's loss
    local     o_i = x_i W'(x_i) + B'(x_i)          independent observation block; the same after it, no mixer
    external  L_B = |o_i - S_i|^2 / d              distillation: of the blocks,
              L_Q = KL(softmax Q_i^G / T || softmax Q_i^L / T)        of the values of available actions,
              L_F = KL(softmax F_i^G || softmax F_i^L)                and of the first layers
    internal  L_I = mean (f_P(s) - f_T(s))^2       f_T a random network, f_P learns to predict it: large where s is new
              r   + m L_I,  m ~ Bernoulli(mu)      is the reward that the guide learns from

Guide, local network and predictor have an optimiser each; no gradient of a student's loss reaches the guide. Both are judged.

Reconstructed: the local block (printed with the state in it, against the text: x_i here); squares that the printed losses lack; L_B
divided by d; KL on values through a softmax; the mask as a coin per transition (`intrinsic="scale"` multiplies by mu instead);
means over living agents for L_B, sums for L_Q and L_F; the guide plays. Not given there: batch, buffer, sizes: PyMARL's.
`fusion="raw"` is the ablation of table 3 as we understand it: one linear map of s and x_i. Ours: `fusion="elu"`, a fusion block
that is not linear, and `intrinsic="falling"`, a mask that becomes as rare as the prediction has become good, mu * error / error of
the untrained predictor.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from limbeck.distil import Student, Taught, apart, match_policy, over_agents, part_of, together
from limbeck.errors import BadSetting, unknown
from limbeck.methods.bases import learn_on_base
from limbeck.methods.q_learning import OPTIMISERS, PRESETS, QSettings, optimiser_of
from limbeck.nets.agents import local_dim
from limbeck.nets.blocks import Block, BlockAgent, ObservationHypernetwork, RawState
from limbeck.nets.fusion import StateHypernetwork
from limbeck.nets.mixers import Layers
from limbeck.nets.unroll import Values
from limbeck.types import PRIVILEGED, Algorithm, Decision, EnvSpec, Segment

FUSIONS = ("linear", "elu", "raw")
INTRINSIC = ("mask", "scale", "falling")


@dataclass(frozen=True)
class DDNSettings(QSettings):
    """Q-learning's settings, which are the guide's, and those of both distillations."""

    fusion: str = "linear"
    """what the guide makes of the state: linear (the paper's), elu, or raw (its ablation)"""
    width: int = 64
    """what both blocks put out (d)"""
    products: str = "bfloat16"
    """what both blocks multiply many decisions in: bfloat16 (sums are float32) or float32"""
    block_weight: float = 1.0
    """of L_B"""
    q_weight: float = 1.0
    """of L_Q"""
    feature_weight: float = 1.0
    """of L_F"""
    temperature: float = 1.0
    """T, by which values are divided before the softmax of L_Q"""
    student_optimiser: str = "adam"
    """adam or rmsprop"""
    student_lr: float = 1e-3
    """step size of the local network's optimiser"""
    collects: str = "teacher"
    """who plays: teacher (the guide), student (the local network) or mix"""
    mu: float = 0.75
    """share of the transitions that are paid for novelty; 0: no internal distillation"""
    intrinsic: str = "mask"
    """mask, scale or falling"""
    intrinsic_scale: float = 1.0
    """by which L_I is multiplied as a reward"""
    novelty_lr: float = 5e-4
    """Adam's step size for the predictor"""


PAPER = PRESETS["pymarl"] | {"student_lr": 5e-4}
DDN_PRESETS: dict[str, dict[str, Any]] = {
    "paper": PAPER,
    "paper-3s5z_vs_3s6z": PAPER | {"lr": 1e-3, "student_lr": 1e-3, "eps_steps": 1_000_000},
    "predator-prey": PAPER,
}
"""For 2M, 5M and 1M steps with `worlds` 1: RMSprop for the guide, Adam for the local network."""


def build(spec: EnvSpec, settings: DDNSettings = DDNSettings(), **changes: Any) -> Algorithm:
    """DDN on any mixer. `changes` replace single settings, such as `mu=0.0`.

    Raises:
        UnknownName: there is no such fusion, intrinsic reward, collector, optimiser or mixer.
        NotOffered: the mixer reads what the world does not have.
        BadSetting: mu is no probability.
    """
    settings = replace(settings, **changes)
    _check(settings)

    def make_guide(key: PRNGKeyArray) -> BlockAgent:
        key_block, key_agent = jax.random.split(key)
        return BlockAgent(spec, fusion_block(spec, settings, key_block), settings.width, settings.hidden, key_agent)

    def make_local(key: PRNGKeyArray) -> BlockAgent:
        key_block, key_agent = jax.random.split(key)
        block = ObservationHypernetwork(local_dim(spec), settings.hidden, settings.width, key_block, settings.products)
        return BlockAgent(spec, block, settings.width, settings.hidden, key_agent)

    guide = learn_on_base(spec, settings, make_guide, PRIVILEGED)
    optimiser = optimiser_of(settings, settings.student_optimiser, settings.student_lr)
    double = together(spec, guide, Student(make_local, partial(external, s=settings), optimiser, settings.collects))
    return double if settings.mu == 0 else curious(spec, double, settings)


def fusion_block(spec: EnvSpec, settings: DDNSettings, key: PRNGKeyArray) -> Block:
    """What the guide makes of the state."""
    if settings.fusion == "raw":
        return RawState(local_dim(spec), spec.state_dim, settings.width, key)
    linear = settings.fusion == "linear"
    return StateHypernetwork(local_dim(spec), spec.state_dim, settings.hidden, settings.width, key, linear, settings.products)


def external(own: Values, taught: Values, seen: Decision, s: DDNSettings) -> tuple[Float[Array, ""], dict[str, Array]]:
    """L_B + L_Q + L_F of T decisions. `taught` is a constant."""
    blocks = ((own.extra.block - taught.extra.block) ** 2).mean(-1)
    values = match_policy(own.q, taught.q, seen.avail_actions, s.temperature)
    features = match_policy(own.extra.first, taught.extra.first)
    parts = {
        "loss_block": over_agents(blocks, seen.alive),
        "loss_q": over_agents(values, seen.alive, mean=False),
        "loss_feature": over_agents(features, seen.alive, mean=False),
    }
    weights = (s.block_weight, s.q_weight, s.feature_weight)
    return sum((w * part for w, part in zip(weights, parts.values(), strict=True)), jnp.float32(0.0)), parts


# -- internal distillation -------------------------------------------------------------------------------------------------


class Novelty(eqx.Module):
    """How new a state is: the error of a network that learns to predict a random one."""

    predictor: Layers
    random: Layers
    """never learns"""
    untrained: Layers
    """the predictor as it was at the beginning, which never learns either"""

    def __init__(self, spec: EnvSpec, hidden: int, key: PRNGKeyArray):
        key_predictor, key_random = jax.random.split(key)
        widths = (spec.state_dim, hidden, hidden)
        self.predictor, self.random = Layers(widths, key_predictor), Layers(widths, key_random)
        self.untrained = jax.tree.map(jnp.copy, self.predictor)

    def error(self, state: Float[Array, "*b S"]) -> Float[Array, "*b"]:
        """L_I of each state; gradients reach the predictor alone."""
        return _distance(self.predictor, self.random, state)

    def first_error(self, state: Float[Array, "*b S"]) -> Float[Array, "*b"]:
        """What it would be without any learning. No gradient."""
        return jax.lax.stop_gradient(_distance(self.untrained, self.random, state))


def _distance(guess: Layers, truth: Layers, state: Array) -> Array:
    return ((guess(state) - jax.lax.stop_gradient(truth(state))) ** 2).mean(-1)


class Curious(NamedTuple):
    """Guide and local network, and what makes new states worth something."""

    double: Taught
    novelty: Novelty


def intrinsic(novelty: Novelty, segment: Segment, key: PRNGKeyArray, s: DDNSettings) -> tuple[Array, Array, Array]:
    """(what is added to the rewards [T, B], L_I, the share mu that is paid)."""
    state = segment.decisions.state[:-1]
    error = novelty.error(state)
    constant = jax.lax.stop_gradient(error)
    mu = jnp.float32(s.mu)
    if s.intrinsic == "falling":
        mu = mu * jnp.minimum(constant.mean() / jnp.maximum(novelty.first_error(state).mean(), 1e-8), 1.0)
    paid = mu if s.intrinsic == "scale" else jax.random.bernoulli(key, mu, error.shape)
    return paid * constant * s.intrinsic_scale, error.mean(), mu


def curious(spec: EnvSpec, algorithm: Algorithm, settings: DDNSettings) -> Algorithm:
    """The same algorithm, whose guide is paid for seeing what is new."""

    def init(key: PRNGKeyArray) -> Curious:
        return Curious(algorithm.init(key), Novelty(spec, settings.hidden, jax.random.fold_in(key, 4)))

    def loss(params: Curious, target: PyTree, segment: Segment, key: PRNGKeyArray) -> tuple[Array, dict[str, Array]]:
        reward, error, mu = intrinsic(params.novelty, segment, jax.random.fold_in(key, 4), settings)
        paid = segment._replace(reward=segment.reward + reward)
        found, metrics = algorithm.loss(params.double, target, paid, key)
        return found + error, metrics | {"loss_novelty": error, "intrinsic_reward": reward.mean(), "mu": mu}

    def act(params: Curious, *given: Any) -> Any:
        return algorithm.act(params.double, *given)

    return replace(
        algorithm,
        init=init,
        act=act,
        loss=loss,
        optimiser=apart(Curious, double=algorithm.optimiser, novelty=optax.adam(settings.novelty_lr)),
        policies={name: part_of(policy, lambda params: params.double) for name, policy in algorithm.policies.items()},
        init_target=lambda params: algorithm.init_target(params.double),
        after_collect=lambda params, *given: algorithm.after_collect(params.double, *given),
        catch_up=lambda params, *given: algorithm.catch_up(params.double, *given),
        after_update=lambda params, *given: algorithm.after_update(params.double, *given),
    )


def _check(settings: DDNSettings) -> None:
    if not 0 <= settings.mu <= 1:
        raise BadSetting(f"mu is {settings.mu}; it must be between 0 and 1")
    for what, known in (("fusion", FUSIONS), ("intrinsic", INTRINSIC), ("student_optimiser", tuple(OPTIMISERS))):
        if getattr(settings, what) not in known:
            raise unknown(what, getattr(settings, what), known)
