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
_ROLE, _OWNER, _TEAM = (np.eye(n, dtype=np.float32) for n in (ROLES, NUMBERS + 1, 3))


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
    left, players = len(pitch["left_team"]), len(places)
    seen = np.empty((len(who), players, 4), np.float32)
    seen[..., :2] = places - places[who][:, None]
    seen[..., 2:] = velocities
    told = np.zeros((len(who), sizes(left, players - left)[0]), np.float32)
    ball = 4 + 4 * players
    told[:, :2], told[:, 2:4] = places[who], velocities[who]
    told[:, 4:ball] = seen.reshape(len(who), -1)
    told[:, ball : ball + 3] = pitch["ball"]
    told[:, ball + 3 : ball + 6] = _owning_team(pitch)
    told[range(len(who)), [ball + 6 + i for i in who]] = 1
    return told


def state(pitch: Mapping[str, Any]) -> np.ndarray:
    """The whole pitch, [S]."""
    left, right = (len(pitch[side]) for side in SIDES)
    told = np.empty(sizes(left, right)[1], np.float32)
    players, ball = told[:-BALL].reshape(-1, PLAYER), told[-BALL:]
    for side, rows in zip(SIDES, (players[:left], players[left:]), strict=True):
        rows[:, :2], rows[:, 2:4] = pitch[side], pitch[f"{side}_direction"]
        rows[:, 4], rows[:, 5:] = pitch[f"{side}_tired_factor"], _ROLE[pitch[f"{side}_roles"]]
    ball[:3], ball[3:6], ball[6:9] = pitch["ball"], pitch["ball_direction"], pitch["ball_rotation"]
    ball[9:12], ball[12:] = _owning_team(pitch), _OWNER[pitch["ball_owned_player"]]
    return told


def _both(pitch: Mapping[str, Any], what: str) -> np.ndarray:
    """Something about all players, ours first."""
    return np.concatenate([pitch[f"{side}{what}"] for side in SIDES])


def _owning_team(pitch: Mapping[str, Any]) -> np.ndarray:
    """[us, nobody, them]"""
    return _TEAM[{US: 0, THEM: 2}.get(pitch["ball_owned_team"], 1)]
