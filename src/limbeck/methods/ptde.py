"""PTDE: personalised training with distilled execution (Chen et al., arXiv 2210.08872; IJCAI 2024, pp. 31-39).

Stage 1, the teacher. Each agent turns the global state into information of its own, by a hypernetwork fed with its local input:

    x_i = [o_i, last action, i]      g_i = ELU(s W(x_i) + b(x_i))      z_i ~ N(mu(g_i), max(exp v(g_i), var_floor))
    Q_i = Linear([ReLU(Linear(h_i)), z_i])                             trained end to end by any mixer's Q-learning loss

`personaliser="giu"` is the paper's ablation: one linear map of s for all agents. The paper names the size of W as its main
weakness; lowrank, film and attention are lighter ways to g_i (ours, see docs/decisions/0007). z is sampled in training and in
execution.

On MAPPO (paper, figure 3; no code), the agent's values are the actor's logits, and the critic stays what it is. Ours: z = mu there,
since the ratio of new to old probabilities means something only for the same z; the student learns mu in any case.

Stage 2, the student. The trained agent plays; a network of x_i alone learns mu by regression, off line:

    L = mean over rows of |mu(g_i) - z'(x_i)|^2                        then z_i := z'(x_i), all else frozen

Where paper and code differ, or are silent: the target is the mean mu, not a sample (code); three linear layers (code); the student
acts without noise (paper); rows of dead agents are left out (ours: the code keeps them, and the padding of ended episodes, which
bias the error); the rows come from continuous play, so there is no padding.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from limbeck.distil import OfflineSettings, match_latent, offline
from limbeck.errors import BadSetting, unknown
from limbeck.losses import masked_mean
from limbeck.methods.bases import learn_on_base
from limbeck.methods.mappo import MAPPOSettings, PPOParams, learn
from limbeck.methods.q_learning import QParams, QSettings
from limbeck.nets.agents import local_dim, local_input
from limbeck.nets.fusion import FeatureModulation, Fusion, LowRankHypernetwork, StateHypernetwork, UnitAttention
from limbeck.nets.greedy import q_policy, start_of
from limbeck.nets.personalise import Latent, LocalLatent, PersonalisedAgent, PersonalisedLatent, UnifiedLatent
from limbeck.nets.unroll import early
from limbeck.types import LOCAL, PRIVILEGED, Algorithm, EnvSpec, Segment


@dataclass(frozen=True)
class Personalising:
    """The personalising module's settings."""

    personaliser: str = "gip"
    """what makes the state an agent's own: gip (the paper's hypernetwork), lowrank, film, attention (over units); giu: nothing"""
    latent: int = 64
    """size of z and of the layers before it"""
    rank: int = 64
    """of the hypernetwork's tensor, for lowrank"""
    var_floor: float = 0.01
    """smallest variance of z (0.002 is noted in the authors' code for 3s5z_vs_3s6z)"""


@dataclass(frozen=True)
class TeacherSettings(Personalising, QSettings):
    """Stage 1: Q-learning's settings, and the personalising module's."""


@dataclass(frozen=True)
class MAPPOTeacherSettings(Personalising, MAPPOSettings):
    """Stage 1 on MAPPO: its settings, and the personalising module's, whose `var_floor` is not used there."""


StudentSettings = OfflineSettings
"""Stage 2. The defaults are the fast preset; `PRESETS["paper"]` is the published recipe."""

PRESETS = {
    "fast": StudentSettings(),
    "paper": StudentSettings(lr=1e-4, lr_end=1e-4, updates=500_000),
}

TeacherSettingsOfAnyKind = TeacherSettings | MAPPOTeacherSettings
MakeLatent = Callable[[EnvSpec, TeacherSettingsOfAnyKind, PRNGKeyArray], Latent]


def _personalised(make_fusion: Callable[[EnvSpec, TeacherSettingsOfAnyKind, PRNGKeyArray], Fusion]) -> MakeLatent:
    def make(spec: EnvSpec, s: TeacherSettingsOfAnyKind, key: PRNGKeyArray) -> Latent:
        key_fusion, key_heads = jax.random.split(key)
        return PersonalisedLatent(make_fusion(spec, s, key_fusion), s.latent, s.var_floor, key_heads)

    return make


PERSONALISERS: dict[str, MakeLatent] = {
    "gip": _personalised(lambda spec, s, key: StateHypernetwork(local_dim(spec), spec.state_dim, s.hidden, s.latent, key)),
    "lowrank": _personalised(
        lambda spec, s, key: LowRankHypernetwork(local_dim(spec), spec.state_dim, s.hidden, s.latent, s.rank, key)
    ),
    "film": _personalised(lambda spec, s, key: FeatureModulation(local_dim(spec), spec.state_dim, s.hidden, s.latent, key)),
    "attention": _personalised(lambda spec, s, key: UnitAttention(spec, s.hidden, s.latent, key)),
    "giu": lambda spec, s, key: UnifiedLatent(spec, s.latent, s.var_floor, key),
}


def teacher(spec: EnvSpec, settings: TeacherSettings = TeacherSettings(), **changes: Any) -> Algorithm:
    """Stage 1 on any mixer. `changes` replace single settings, such as `mixer="vdn"`.

    Raises:
        UnknownName: there is no such personaliser or mixer.
        NotOffered: the personaliser or the mixer reads what the world does not have.
    """
    settings = replace(settings, **changes)
    return learn_on_base(spec, settings, _agents(spec, settings, sampled=True), PRIVILEGED)


def teacher_on_mappo(spec: EnvSpec, settings: MAPPOTeacherSettings = MAPPOTeacherSettings(), **changes: Any) -> Algorithm:
    """Stage 1 on MAPPO. `changes` replace single settings, such as `personaliser="giu"`.

    Raises:
        UnknownName: there is no such personaliser or critic.
        NotOffered: the personaliser or the critic reads what the world does not have.
        BadSetting: agents that share nothing.
    """
    settings = replace(settings, **changes)
    if not settings.shared:
        raise BadSetting("PTDE's personalised agents share their parameters: leave `shared` as it is")
    return learn(spec, settings, _agents(spec, settings, sampled=False), PRIVILEGED)


def _agents(spec: EnvSpec, settings: TeacherSettingsOfAnyKind, sampled: bool) -> Callable[[PRNGKeyArray], PersonalisedAgent]:
    """key -> a personalised agent."""
    if settings.personaliser not in PERSONALISERS:
        raise unknown("personaliser", settings.personaliser, PERSONALISERS)

    def make(key: PRNGKeyArray) -> PersonalisedAgent:
        key_latent, key_agent = jax.random.split(key)
        latent = PERSONALISERS[settings.personaliser](spec, settings, key_latent)
        return PersonalisedAgent(spec, settings.hidden, settings.latent, latent, key_agent, sampled)

    jax.eval_shape(make, jax.random.key(0))  # what does not fit this world is refused here, not when training begins
    return make


class StudentParams(NamedTuple):
    """What stage 2 holds."""

    latent: LocalLatent
    """learned"""
    teacher: PersonalisedAgent
    """frozen: labels the data, and lends the student its recurrent core and head"""


class Rows(NamedTuple):
    """One agent at one decision, R of them."""

    x: Float[Array, "R D"]
    mean: Float[Array, "R Z"]
    alive: Float[Array, "R"]


def student(
    spec: EnvSpec,
    trained: QParams | PPOParams,
    settings: OfflineSettings = PRESETS["fast"],
    **changes: Any,
) -> Algorithm:
    """Stage 2, from the parameters of a trained teacher. `changes` replace single settings, such as `updates=5000`.

    Raises:
        BadSetting: the parameters are not those of a teacher with a latent.
    """
    if not isinstance(trained, QParams | PPOParams) or not isinstance(trained.agent, PersonalisedAgent):
        raise BadSetting("a student is distilled from a PTDE teacher: train one first, with `limbeck train ptde`")
    settings = replace(settings, **changes)
    half = jnp.float16 if spec.unit_scale else jnp.float32
    frozen = trained.agent
    latent = frozen.latent_dim

    def init(key: PRNGKeyArray) -> StudentParams:
        return StudentParams(LocalLatent(spec, latent, latent, key), frozen)

    def label(params: StudentParams, segment: Segment) -> Rows:
        seen = early(segment.decisions)
        x = local_input(seen, spec.n_actions)
        mean, _ = params.teacher.latent.moments(x, seen.state)
        rows = Rows(x.astype(half), mean, seen.alive.astype(jnp.float32))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), rows)

    init_carry = start_of(spec, frozen.carry_dim)
    which: Any = StudentParams("learn", "freeze")  # type: ignore[arg-type]
    return offline(
        spec,
        settings,
        init=init,
        learns=which,
        label=label,
        loss=match_mean,
        student=q_policy(student_agent, LOCAL, init_carry),
        teacher=q_policy(lambda params: params.teacher, PRIVILEGED, init_carry),
    )


def student_agent(params: StudentParams) -> PersonalisedAgent:
    """The agent that goes onto the device: the teacher's core and head, with the student's latent."""
    return eqx.tree_at(lambda agent: agent.latent, params.teacher, params.latent)


def match_mean(params: StudentParams, target: PyTree, rows: Rows, key: PRNGKeyArray) -> tuple[Array, dict[str, Array]]:
    """mean over living rows of sum over the 64 numbers of (mu - z')^2. Only `params.latent` gets a gradient."""
    guess, _ = params.latent.moments(rows.x.astype(jnp.float32), None)
    error = match_latent(guess, rows.mean)
    spread = ((rows.mean - rows.mean.mean(0, keepdims=True)) ** 2).sum(-1)
    return masked_mean(error, rows.alive), {"unexplained": masked_mean(error, rows.alive) / masked_mean(spread, rows.alive)}
