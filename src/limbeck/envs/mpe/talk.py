"""One agent knows where the other should go, and can only say so: in words whose meaning the two have to agree upon."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from limbeck.envs.mpe.particles import MOVES, anywhere, drift, length, outcome, own_force
from limbeck.errors import check_whole
from limbeck.types import EnvSpec, Observation, Outcome

LANDMARKS = 3
"""red, green and blue"""
BRIGHT = 0.5
"""what a landmark has more of its own colour than of the two others"""


class TalkState(NamedTuple):
    """Where everything is, and what was said last. K agents can move; they are discs that pass through each other."""

    step: Int[Array, ""]
    movers: Float[Array, "K 2"]
    velocity: Float[Array, "K 2"]
    landmarks: Float[Array, "L 2"]
    goal: Int[Array, "K"]
    """the landmark that a speaker wants its listener at"""
    word: Int[Array, "K"]
    """what each speaker said in the last step; -1 before the first"""


def begin(key: PRNGKeyArray, movers: int) -> TalkState:
    """A new episode: everything anywhere, any goals, and nobody has said a word."""
    key_place, key_goal = jax.random.split(key)
    places = anywhere(key_place, movers + LANDMARKS)
    goal = jax.random.randint(key_goal, (movers,), 0, LANDMARKS)
    return TalkState(jnp.int32(0), places[:movers], jnp.zeros((movers, 2)), places[movers:], goal, jnp.full_like(goal, -1))


def go_on(state: TalkState, move: Int[Array, "K"], word: Int[Array, "K"]) -> TalkState:
    """One step on: what was said is heard at the next decision."""
    movers, velocity = drift(state.movers, state.velocity, own_force(move))
    return state._replace(step=state.step + 1, movers=movers, velocity=velocity, word=word)


def seen_by_movers(state: TalkState) -> Float[Array, "K D"]:
    """Velocities, and the landmarks from where one is; nobody knows its place."""
    landmarks = state.landmarks[None] - state.movers[:, None]
    return jnp.concatenate([state.velocity, landmarks.reshape(len(state.movers), -1)], axis=1)


def colours(goal: Int[Array, "K"], dark: float) -> Float[Array, "K 3"]:
    """Of landmarks: red, green and blue, `dark` of those that are not its own."""
    return dark + BRIGHT * jax.nn.one_hot(goal, LANDMARKS)


@dataclass(frozen=True)
class SimpleReference:
    """Two agents, three landmarks. Each knows the landmark at which the other should be, both move and both speak at every step.

    This is `simple_reference_v3` of `mpe2`. There are ten words and five moves (stay, left, right, down, up); action a says word
    a // 5 and makes move a % 5. The team's reward is minus the sum of the distances between the agents and their landmarks. That is
    also the sum of `mpe2`'s rewards, whatever its `local_ratio`, which only deals the same sum out to two learners.

    An agent sees, in this order: its velocity, the landmarks as seen from where it is, the colour of the other's landmark, and the
    other's last word, 10 numbers of which one is 1 (none before the first step). The state is both observations, one after the
    other.

    Args:
        episode_limit: steps after which an episode is truncated.
    """

    episode_limit: int = 25

    words = 10
    dark = 0.25

    def __post_init__(self):
        check_whole(self, episode_limit=1)

    @property
    def spec(self) -> EnvSpec:
        size = 2 + 2 * LANDMARKS + 3 + self.words
        return EnvSpec(
            "mpe/simple_reference",
            n_agents=2,
            n_actions=self.words * len(MOVES),
            obs_dim=size,
            state_dim=2 * size,
            episode_limit=self.episode_limit,
            state_slots=((0, size), (size, 2 * size)),
            negative_returns=True,
        )

    def reset(self, key: PRNGKeyArray) -> TalkState:
        return begin(key, 2)

    def step(self, state: TalkState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[TalkState, Outcome]:
        after = go_on(state, action % len(MOVES), action // len(MOVES))
        away = length(after.movers[::-1] - after.landmarks[after.goal])
        return after, outcome(after.step, -away.sum(), self.episode_limit)

    def observe(self, state: TalkState) -> Observation:
        heard = jax.nn.one_hot(state.word[::-1], self.words)
        obs = jnp.concatenate([seen_by_movers(state), colours(state.goal, self.dark), heard], axis=1)
        return Observation(obs, obs.reshape(-1), jnp.ones((2, self.spec.n_actions), bool), jnp.ones(2, bool))


@dataclass(frozen=True)
class SimpleSpeakerListener:
    """A speaker knows which of three landmarks the listener should be at, and cannot move; the listener moves, and cannot speak.

    This is `simple_speaker_listener_v4` of `mpe2`. Agent 0, the speaker, has the actions 0 to 2, its words. Agent 1, the listener,
    has all five moves. `mpe2` gives both minus the square of the distance between listener and landmark; the team gets their sum.

    The speaker sees the colour of the landmark, 3 numbers; zeros fill its observation up to the listener's 11: its velocity, the
    landmarks as seen from where it is, and the speaker's last word (zeros before the first step). The state is both observations,
    one after the other, without the filling: 14 numbers.

    Args:
        episode_limit: steps after which an episode is truncated.
    """

    episode_limit: int = 25

    words = 3
    dark = 0.15

    def __post_init__(self):
        check_whole(self, episode_limit=1)

    @property
    def spec(self) -> EnvSpec:
        size = 2 + 2 * LANDMARKS + self.words
        return EnvSpec(
            "mpe/simple_speaker_listener",
            n_agents=2,
            n_actions=len(MOVES),
            obs_dim=size,
            state_dim=3 + size,
            episode_limit=self.episode_limit,
            state_slots=((0, 3), (3, 3 + size)),
            negative_returns=True,
        )

    @property
    def avail_actions(self) -> Bool[np.ndarray, "2 5"]:
        """The speaker's words and the listener's moves."""
        return np.arange(len(MOVES)) < np.array([[self.words], [len(MOVES)]])

    def reset(self, key: PRNGKeyArray) -> TalkState:
        return begin(key, 1)

    def step(self, state: TalkState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[TalkState, Outcome]:
        after = go_on(state, move=action[1:], word=action[:1])
        away = after.movers - after.landmarks[after.goal]
        return after, outcome(after.step, -2 * (away**2).sum(), self.episode_limit)

    def observe(self, state: TalkState) -> Observation:
        colour = colours(state.goal, self.dark)[0]
        listener = jnp.concatenate([seen_by_movers(state)[0], jax.nn.one_hot(state.word[0], self.words)])
        speaker = jnp.concatenate([colour, jnp.zeros(listener.size - colour.size)])
        shown = jnp.concatenate([colour, listener])
        return Observation(jnp.stack([speaker, listener]), shown, jnp.asarray(self.avail_actions), jnp.ones(2, bool))
