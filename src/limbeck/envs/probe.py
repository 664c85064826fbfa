"""Tiny cooperative worlds whose best return is known, so that a test can say whether a method has learnt.

Each class holds, as attributes, what it knows about itself, as expected return of one episode:

    optimum         the best that any team can reach
    local_optimum   the best for agents that see only their own observations
    random_return   agents that choose evenly among what is available
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from limbeck.envs.hunt import Hunt
from limbeck.errors import BadSetting, unknown
from limbeck.types import EnvSpec, Observation, Outcome

PAIR = ((0, 1), (1, 2))
"""slots of two agents with one number each"""

GAMES: dict[str, tuple[tuple[float, ...], ...]] = {
    "matrix": ((0.2, 0.0, 0.4), (0.5, 0.3, 1.0), (0.3, 0.1, 0.5)),
    "nonmonotonic": ((8.0, -12.0, -12.0), (-12.0, 0.0, 0.0), (-12.0, 0.0, 0.0)),
    "decoys": ((8.0, -12.0, -12.0), (-12.0, 6.0, 0.0), (-12.0, 0.0, 6.0)),
}
"""Games of one step: a row per action of agent 0, a column per action of agent 1.

matrix        Every agent has an action of its own that is best whatever the other does. The pay-off is monotonic, so IQL, VDN
              and QMIX all find the best joint action; it is not additive, so only QMIX can also represent its value exactly.
nonmonotonic  From QTRAN (Son et al. 2019, arXiv 1905.05408), played by weighted QMIX and QPLEX too: half of the best joint action
              is the worst that an agent can do beside a partner who tries things out. No monotonic function has these values:
              one keeps the 8 and tells the others no longer apart, or keeps the zeros and gives up the 8.
decoys        The harder game of QPLEX (Wang et al. 2021, arXiv 2008.01062): the same with two second bests that nobody gains by
              leaving alone. With all joint actions weighted alike, the nearest monotonic function keeps these and not the 8.
"""


class MatrixState(NamedTuple):
    """Nothing changes in a game of one step."""

    step: Int[Array, ""]


@dataclass(frozen=True)
class Matrix:
    """One step, two agents, three actions each; won by the best joint action. Which reward follows is looked up in `GAMES`.

    The state tells nothing, but has a part for each agent, so that every mixer can play.
    """

    game: str = "matrix"

    def __post_init__(self):
        if self.game not in GAMES:
            raise unknown("game", self.game, GAMES)

    def payoff(self) -> tuple[tuple[float, ...], ...]:
        """Reward: a row per action of agent 0, a column per action of agent 1."""
        return GAMES[self.game]

    @property
    def optimum(self) -> float:
        return max(max(row) for row in self.payoff())

    @property
    def local_optimum(self) -> float:
        return self.optimum

    @property
    def random_return(self) -> float:
        return sum(sum(row) for row in self.payoff()) / 9

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(f"probe/{self.game}", 2, 3, 2, 2, episode_limit=1, state_slots=PAIR, has_win=True, unit_scale=True)

    def reset(self, key: PRNGKeyArray) -> MatrixState:
        return MatrixState(jnp.int32(0))

    def step(self, state: MatrixState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[MatrixState, Outcome]:
        reward = jnp.array(self.payoff(), jnp.float32)[action[0], action[1]]
        won = reward >= self.optimum
        return MatrixState(state.step + 1), Outcome(reward, jnp.array(True), jnp.array(False), {"won": won})

    def observe(self, state: MatrixState) -> Observation:
        return Observation(jnp.eye(2), jnp.ones(2), jnp.ones((2, 3), bool), jnp.ones(2, bool))


class SwitchState(NamedTuple):
    """What each agent was shown, and how long ago."""

    step: Int[Array, ""]
    light: Bool[Array, "2"]


@dataclass(frozen=True)
class Switch:
    """Two agents remember a light over `delay` dark steps, then each must set its switch (actions 1: off, 2: on) as the light was.

    Nothing but the light itself tells the first decision from a dark one, so a recurrent agent whose hidden state is not reset at
    `is_first` carries the last episode's light into this one. Until the end, waiting (action 0) is all that is possible; at the
    end it is not possible. Each right switch is worth a half.
    """

    delay: int = 3

    optimum = 1.0
    local_optimum = 1.0
    random_return = 0.5

    def __post_init__(self):
        _positive("delay", self.delay)

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec("probe/switch", 2, 3, 4, 3, episode_limit=self.delay + 1, state_slots=PAIR, has_win=True, unit_scale=True)

    def reset(self, key: PRNGKeyArray) -> SwitchState:
        return SwitchState(jnp.int32(0), jax.random.bernoulli(key, shape=(2,)))

    def step(self, state: SwitchState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[SwitchState, Outcome]:
        last = state.step == self.delay
        right = action == 1 + state.light
        reward = jnp.where(last, right.mean(), 0.0)
        return state._replace(step=state.step + 1), Outcome(reward, last, jnp.array(False), {"won": last & right.all()})

    def observe(self, state: SwitchState) -> Observation:
        last = state.step == self.delay
        light = jnp.where(state.step == 0, state.light, False)
        signal = jnp.stack([light, jnp.broadcast_to(last, (2,))], axis=1)
        obs = jnp.concatenate([jnp.eye(2), signal.astype(jnp.float32)], axis=1)
        known = jnp.concatenate([state.light, last[None]]).astype(jnp.float32)
        avail_actions = jnp.broadcast_to(jnp.stack([~last, last, last]), (2, 3))
        return Observation(obs, known, avail_actions, jnp.ones(2, bool))


class LeverState(NamedTuple):
    """The riddle of this step, and whether all earlier ones were solved."""

    step: Int[Array, ""]
    secret: Int[Array, "N"]
    """the right lever, by slot of the state"""
    slot: Int[Array, "N"]
    """which slot is each agent's own: a permutation"""
    cipher: Int[Array, "N"]
    """by how much each agent's hint is rotated"""
    hinted: Bool[Array, "N"]
    all_right: Bool[Array, ""]


@dataclass(frozen=True)
class Lever:
    """At every step each agent must pull its own secret lever; all is drawn anew at the next step.

    The state lists the secrets by slot, but not whose they are; an agent's observation says which slot is its own, but not what is
    in it. A privileged agent has to read the state through its observation. Locally, the secret appears with chance `hint`.

    With `encrypted` the hint is rotated by a number that the agent sees too: derivable from the observation, though no single entry
    tells it.
    """

    hint: float = 0.5
    encrypted: bool = False
    n_agents: int = 3
    levers: int = 3
    length: int = 4

    def __post_init__(self):
        _positive("n_agents", self.n_agents)
        _positive("levers", self.levers)
        _positive("length", self.length)
        if not 0 <= self.hint <= 1:
            raise BadSetting(f"hint is a probability from 0 to 1, not {self.hint}")

    @property
    def optimum(self) -> float:
        return float(self.length)

    @property
    def local_optimum(self) -> float:
        return self.length * (self.hint + (1 - self.hint) / self.levers)

    @property
    def random_return(self) -> float:
        return self.length / self.levers

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            "probe/whisper" if self.encrypted else "probe/lever",
            self.n_agents,
            self.levers,
            obs_dim=self.n_agents + 2 * self.levers,
            state_dim=self.n_agents * self.levers,
            episode_limit=self.length,
            other_slots=tuple((i * self.levers, (i + 1) * self.levers) for i in range(self.n_agents)),
            has_win=True,
            unit_scale=True,
        )

    def reset(self, key: PRNGKeyArray) -> LeverState:
        key_secret, key_slot, key_cipher, key_hint = jax.random.split(key, 4)
        shape = (self.n_agents,)
        return LeverState(
            step=jnp.int32(0),
            secret=jax.random.randint(key_secret, shape, 0, self.levers),
            slot=jax.random.permutation(key_slot, self.n_agents),
            cipher=jax.random.randint(key_cipher, shape, 0, self.levers if self.encrypted else 1),
            hinted=jax.random.bernoulli(key_hint, self.hint, shape),
            all_right=jnp.array(True),
        )

    def step(self, state: LeverState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[LeverState, Outcome]:
        right = action == state.secret[state.slot]
        all_right = state.all_right & right.all()
        terminated = state.step + 1 == self.length
        after = self.reset(key)._replace(step=state.step + 1, all_right=all_right)
        return after, Outcome(right.mean(), terminated, jnp.array(False), {"won": terminated & all_right})

    def observe(self, state: LeverState) -> Observation:
        shown = (state.secret[state.slot] + state.cipher) % self.levers
        hint = jnp.where(state.hinted[:, None], jax.nn.one_hot(shown, self.levers), 0.0)
        obs = [jax.nn.one_hot(state.slot, self.n_agents), hint, jax.nn.one_hot(state.cipher, self.levers)]
        secrets = jax.nn.one_hot(state.secret, self.levers).reshape(-1)
        everything = jnp.ones((self.n_agents, self.levers), bool)
        return Observation(jnp.concatenate(obs, axis=1), secrets, everything, jnp.ones(self.n_agents, bool))


def whisper(n_agents: int = 3, levers: int = 3, length: int = 4) -> Lever:
    """`Lever` with all secrets also in the local observations, encrypted: here a student can be as good as its teacher."""
    return Lever(hint=1.0, encrypted=True, n_agents=n_agents, levers=levers, length=length)


class TimeoutState(NamedTuple):
    """A clock that nobody sees."""

    step: Int[Array, ""]


@dataclass(frozen=True)
class Timeout:
    """A reward of 1 at every step, for ever; only the time limit cuts it.

    Whoever bootstraps beyond a truncation values every decision at 1 / (1 - gamma); whoever takes it for a termination, at less.
    Agent 1 falls at step `casualty`: from then on it is not alive, sees zeros and can only do nothing (action 0), which the living
    cannot do.
    """

    length: int = 5
    casualty: int = 2

    def __post_init__(self):
        _positive("length", self.length)
        _positive("casualty", self.casualty)

    @property
    def optimum(self) -> float:
        return float(self.length)

    @property
    def local_optimum(self) -> float:
        return self.optimum

    @property
    def random_return(self) -> float:
        return self.optimum

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec("probe/timeout", 2, 3, 2, 2, episode_limit=self.length, state_slots=PAIR, unit_scale=True)

    def reset(self, key: PRNGKeyArray) -> TimeoutState:
        return TimeoutState(jnp.int32(0))

    def step(self, state: TimeoutState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[TimeoutState, Outcome]:
        step = state.step + 1
        return TimeoutState(step), Outcome(jnp.float32(1), jnp.array(False), step == self.length, {"won": jnp.array(False)})

    def observe(self, state: TimeoutState) -> Observation:
        alive = jnp.stack([jnp.array(True), state.step < self.casualty])
        avail_actions = jnp.stack([~alive, alive, alive], axis=1)
        return Observation(jnp.eye(2) * alive[:, None], alive.astype(jnp.float32), avail_actions, alive)


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise BadSetting(f"{name} is at least 1, not {value}")


WORLDS = {
    **{game: partial(Matrix, game) for game in GAMES},
    "switch": Switch,
    "lever": Lever,
    "whisper": whisper,
    "timeout": Timeout,
    "hunt": Hunt,
}
