"""What agents are paid for: goals, and ways to the goal (checkpoints), as the game's own wrappers do (Kurach et al., AAAI 2020)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from limbeck.envs.football.features import US

CIRCLES = np.linspace(0.99, 0.19, 10)
"""distances from the middle of the goal's line; who first comes so near with the ball is paid"""
BONUS = 0.1
GOAL = (1.0, 0.0)


def scoring(score: int, pitch: Mapping[str, Any], agents: Sequence[int], passed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 to every agent for a goal, -1 for one against the team. For the arguments see `checkpoints`."""
    return np.full(len(agents), float(score)), passed


def checkpoints(score: int, pitch: Mapping[str, Any], agents: Sequence[int], passed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, and 0.1 for each of ten circles round the goal that an agent enters with the ball; a goal pays those that are left.

    So a goal is worth 2 to every agent in the end, however it came about.

    Args:
        score: what the step changed in the difference of goals.
        pitch: the engine's account of the pitch.
        agents: the agents' places in `left_team`.
        passed: circles for which each agent has been paid, [N].

    Returns:
        The agents' rewards [N], and `passed` after the step.
    """
    if score == 1:
        return 1 + BONUS * (len(CIRCLES) - passed), np.full(len(agents), len(CIRCLES))
    after = passed
    if pitch["ball_owned_team"] == US:
        inside = (math.dist(pitch["ball"][:2], GOAL) <= CIRCLES).sum()
        after = np.where(np.asarray(agents) == pitch["ball_owned_player"], np.maximum(passed, inside), passed)
    return score + BONUS * (after - passed), after


REWARDS = {"checkpoints": checkpoints, "scoring": scoring}
