"""What agents and teachers are shown of the pitch, in numpy: the features of PTDE's football experiments (its table 4).

L and R are the players of the agents' team and of the other, keepers included; N of the L are agents. Everything is in the engine's
own units: the pitch is [-1, 1] by [-0.42, 0.42], velocities are distances per step.

    observation   4 + 4 (L + R) + 6 + L   own place 2 and velocity 2; of every player, oneself included, where seen from
                                          oneself 2 and velocity 2; the ball's place 3; who owns it: us, nobody, them; who I am
    state         15 (L + R) + 24         of every player place 2, velocity 2, tiredness 1, role 10; the ball's place 3, velocity 3
                                          and rotation 3; which team owns it; which of its players, the last if none

The authors' program lists the state team by team (all places, then all velocities, ...). Here it goes player by player, so that
every agent has a part of the state that is its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ROLES = 10
PLAYER = 5 + ROLES
"""numbers that the state has about one player"""
NUMBERS = 11
"""players that a team has at most"""
BALL = 9 + 3 + NUMBERS + 1
"""numbers that the state has about the ball"""
US, THEM = 0, 1
"""as the engine numbers the teams; nobody is -1"""
SIDES = ("left_team", "right_team")


def sizes(left: int, right: int) -> tuple[int, int]:
    """(O, S) for teams of so many players."""
    players = left + right
    return 4 + 4 * players + 6 + left, PLAYER * players + BALL


def slots(left: int, right: int) -> tuple[tuple[int, int], ...]:
    """Where in the state each player is, [L + R]."""
    return tuple((PLAYER * i, PLAYER * (i + 1)) for i in range(left + right))


def observations(pitch: Mapping[str, Any], agents: Sequence[int]) -> np.ndarray:
    """What the agents see, [N, O].

    Args:
        pitch: the engine's account of the pitch.
        agents: the agents' places in `left_team`.
    """
    who, places, velocities = list(agents), _both(pitch, ""), _both(pitch, "_direction")
    seen = [places - places[who][:, None], np.broadcast_to(velocities, (len(who), *velocities.shape))]
    parts = [places[who], velocities[who], np.concatenate(seen, axis=-1).reshape(len(who), -1)]
    ball = np.concatenate([pitch["ball"], _owning_team(pitch)])
    parts += [np.broadcast_to(ball, (len(who), ball.size)), np.eye(len(pitch["left_team"]))[who]]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def state(pitch: Mapping[str, Any]) -> np.ndarray:
    """The whole pitch, [S]."""
    roles = np.eye(ROLES)[_both(pitch, "_roles")]
    players = [_both(pitch, ""), _both(pitch, "_direction"), _both(pitch, "_tired_factor")[:, None], roles]
    ball = [pitch["ball"], pitch["ball_direction"], pitch["ball_rotation"]]
    owner = np.eye(NUMBERS + 1)[pitch["ball_owned_player"]]
    return np.concatenate([np.concatenate(players, axis=1).ravel(), *ball, _owning_team(pitch), owner]).astype(np.float32)


def _both(pitch: Mapping[str, Any], what: str) -> np.ndarray:
    """Something about all players, ours first."""
    return np.concatenate([pitch[f"{side}{what}"] for side in SIDES])


def _owning_team(pitch: Mapping[str, Any]) -> np.ndarray:
    """[us, nobody, them]"""
    return np.eye(3)[{US: 0, THEM: 2}.get(pitch["ball_owned_team"], 1)]
