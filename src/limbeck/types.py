"""The dictionary of the house: every record that crosses a room's threshold.

Axis legend, used in every shape comment of the package:

    T  transitions in a segment (T + 1 decision points)      B  worlds in parallel
    N  agents        A  actions of one agent                 O  size of one agent's observation
    S  size of the global state                              H  size of a hidden state

Arrays are time-major, `[T, B, N, ...]`. Fields named `terminated`, `truncated`, `is_first` and `mask` each say one thing; there is
no merged end-of-episode flag anywhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree


@dataclass(frozen=True)
class UnitSight:
    """How observations list units that agents see up to a range: what a shorter sight would show can be computed from them.

    Args:
        ranges: how far every agent sees, in the world's unit of length; what is nearer is seen.
        slots: `(start, stop)` of every unit in an observation, zeros where it is not seen.
        distance: which number of a slot is the unit's distance, divided by the range.
        scaled: which numbers of a slot are lengths divided by the range, the distance among them.
    """

    ranges: tuple[float, ...]
    slots: tuple[tuple[int, int], ...]
    distance: int
    scaled: tuple[int, ...]


@dataclass(frozen=True)
class EnvSpec:
    """The sizes of a world, and the facts about its units that a mixer may read.

    Args:
        name: the registered name, such as `smac/3s_vs_5z`.
        n_agents, n_actions, obs_dim, state_dim: N, A, O and S.
        episode_limit: steps after which an episode is truncated.
        state_slots: `(start, stop)` of every agent's own unit in the state, or None where the state has no such parts.
        other_slots: the same for what else the state lists one by one: enemies, prey, landmarks.
        has_win: whether `info["won"]` says something beyond the return.
        full_obs: whether observations come with what the agents would see if nothing were hidden from them.
        negative_returns: whether returns may be below 0, so that 0 is not what a team gets for nothing. What a student keeps of its
            teacher is then counted from the return of random play.
        sight: how observations list what agents see up to a range; None where sight is something else, or has no limit.
        unit_scale: whether observations and states stay within about [-2, 2], so that half precision holds them.
    """

    name: str
    n_agents: int
    n_actions: int
    obs_dim: int
    state_dim: int
    episode_limit: int
    state_slots: tuple[tuple[int, int], ...] | None = None
    other_slots: tuple[tuple[int, int], ...] = ()
    has_win: bool = False
    unit_scale: bool = False
    full_obs: bool = False
    negative_returns: bool = False
    sight: UnitSight | None = None


class Observation(NamedTuple):
    """What a world shows at one decision point (before batching)."""

    obs: Float[Array, "*b N O"]
    state: Float[Array, "*b S"]
    avail_actions: Bool[Array, "*b N A"]
    alive: Bool[Array, "*b N"]
    """agents whose action matters; a dead agent may only do nothing"""
    full_obs: Float[Array, "*b N O"] | None = None
    """`obs` as it would be if nothing were hidden from the agents; None where a world does not offer it, or was not asked to"""


class Outcome(NamedTuple):
    """What a joint action led to."""

    reward: Float[Array, "*b"]
    terminated: Bool[Array, "*b"]
    """the world ended: no value beyond"""
    truncated: Bool[Array, "*b"]
    """the time limit cut the episode: the value beyond is unknown, not zero"""
    info: dict[str, Array]
    """always holds `won`"""


class Decision(NamedTuple):
    """Everything anyone could look at when choosing an action. A policy's *view* names the fields that it may read."""

    obs: Float[Array, "*b N O"]
    state: Float[Array, "*b S"]
    avail_actions: Bool[Array, "*b N A"]
    alive: Bool[Array, "*b N"]
    last_action: Int[Array, "*b N"]
    """-1 at the first decision of an episode"""
    is_first: Bool[Array, "*b"]
    """reset the hidden state before this decision"""
    full_obs: Float[Array, "*b N O"] | None = None

    @classmethod
    def about(cls, seen: Observation, last_action: Array, is_first: Array) -> "Decision":
        """The decision that an observation asks for."""
        return cls(**seen._asdict(), last_action=last_action, is_first=is_first)

    def within(self, view: tuple[str, ...]) -> "Decision":
        """Only the fields of the view. The others are None: what is not there cannot leak."""
        hidden: Any = {name: None for name in self._fields if name not in view}
        return self._replace(**hidden)


LOCAL = ("obs", "avail_actions", "alive", "last_action", "is_first")
PRIVILEGED = (*LOCAL, "state")
FULL = (*LOCAL, "full_obs")


class Segment(NamedTuple):
    """A stretch of experience cut from continuous streams: T transitions between T + 1 decision points."""

    decisions: Decision
    """[T+1, B, ...]"""
    action: Int[Array, "T B N"]
    reward: Float[Array, "T B"]
    terminated: Bool[Array, "T B"]
    mask: Float[Array, "T B"]
    """0 where the transition was truncated: decision t + 1 is then another episode's first, no true successor"""
    carry0: PyTree
    """[B, N, H]: the recurrent state before decision 0, as it was when the segment was collected"""


@dataclass(frozen=True)
class Policy:
    """What is evaluated, played and exported: how to act, and which decision fields it may read."""

    act: Callable[[PyTree, PyTree, Decision, PRNGKeyArray, Array], tuple[Array, PyTree]]
    """(params, carry, decision [B, ...], key, explore) -> (action [B, N], carry)"""
    view: tuple[str, ...]
    agent: Callable[[PyTree], PyTree]
    """params -> the part of them that this policy needs in order to act"""
    init_carry: Callable[[int], PyTree]
    """B -> the recurrent state before the first decision"""


@dataclass(frozen=True)
class Algorithm:
    """A learning method as a value: pure functions, no plumbing. The one seam between papers and the learner.

    `target` is whatever the loss compares against and does not differentiate, such as a lagged copy for Q-learning;
    `after_collect` and `after_update` say when it changes. What has to be computed with the parameters that collected, such as
    PPO's old log-probabilities and advantages, is computed once, by `source.prepare`.
    """

    init: Callable[[PRNGKeyArray], PyTree]
    """key -> params, a pytree of arrays"""
    init_carry: Callable[[int], PyTree]
    """B -> the recurrent state before the first decision, [B, N, ...]"""
    act: Callable[[PyTree, PyTree, Decision, PRNGKeyArray, Array], tuple[Array, PyTree]]
    """the behaviour policy; same signature as `Policy.act`"""
    explore: Callable[[Array], Array]
    """environment steps so far -> how much to explore, handed to `act`"""
    loss: Callable[[PyTree, PyTree, Any, PRNGKeyArray], tuple[Array, dict[str, Array]]]
    """(params, target, what the data source sampled, key) -> (scalar, metrics)"""
    source: "Source"
    optimiser: optax.GradientTransformation
    policies: Mapping[str, Policy]
    """the named policies that the method is judged by; the first is the main one"""
    judged: tuple[str, ...] = ()
    """those that are evaluated while learning goes on; the main one alone if empty"""
    init_target: Callable[[PyTree], PyTree] = field(default=lambda params: params)
    after_collect: Callable[[PyTree, PyTree, Segment, Array], PyTree] = field(default=lambda params, target, segment, steps: target)
    """(params, target, the segment collected, environment steps so far) -> target"""
    catch_up: Callable[[PyTree, PyTree, Segment], PyTree] = field(default=lambda params, carry, segment: carry)
    """(params, carry after a segment was collected, that segment) -> carry: for who takes no part in acting, and is faster later"""
    after_update: Callable[[PyTree, PyTree, Array], PyTree] = field(default=lambda params, target, updates: target)
    """(params, target, updates so far) -> target"""

    @property
    def main(self) -> str:
        """The name of the policy that the method is judged by first."""
        return next(iter(self.policies))


@dataclass(frozen=True)
class Source:
    """Which data a method learns from, and in which rhythm. The learner obeys it and knows no method.

    One iteration is: collect `collect` transitions in every world and add them; then make `updates` updates on fresh samples. While
    fewer than `learn_after` steps are there it only collects; once `collect_until` steps are there it only updates.
    """

    store: Any
    """a record of `init / add / draws / sample` from `limbeck.replay`"""
    collect: int
    """transitions per world and iteration (T)"""
    updates: int = 1
    """updates per iteration"""
    learn_after: int = 0
    collect_until: int | None = None
    total_updates: int | None = None
    """updates after which a run is complete; None: the run's budget of environment steps decides"""
    ahead: bool = False
    """whether worlds that act by themselves may begin a segment while the one before is still learned from: for who learns from old
    experience, and leaves the recurrent state as acting made it (no `catch_up`)"""
    prepare: Callable[[PyTree, Segment], Any] = field(default=lambda params, segment: segment)
    """(params, segment) -> what of it is stored; the parameters are those that collected it"""


class TrainState(NamedTuple):
    """All that a run is: saving this one pytree and loading it again continues the run bit for bit."""

    params: PyTree
    target: PyTree
    opt_state: PyTree
    buffer: PyTree
    worlds: PyTree
    """state of the worlds in progress, their last decision and the recurrent state"""
    steps: Int[Array, ""]
    updates: Int[Array, ""]
    key: PRNGKeyArray
