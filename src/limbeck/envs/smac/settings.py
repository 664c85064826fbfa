"""The options of a battle, with SMAC's defaults."""

import math
from dataclasses import dataclass

from limbeck.envs.smac.units import BALANCES
from limbeck.errors import BadSetting

POSITIONS = ("surrounded", "reflected", "mixed")
"""where armies that are drawn may appear"""


@dataclass(frozen=True)
class SmacSettings:
    """Everything about a battle that is not the map.

    Args:
        balance: the table of unit facts, `liberty` (what the SMAC maps use) or `ladder`.
        sight_range: how far an agent sees. Limits observations only; orders and the opponent are unaffected.
        shoot_range: how far away an enemy may be for the order to attack it, whatever the unit's weapon.
        move_amount: how far away the point is that a move order names.
        obs_all_health: whether other units' health and shield are observed.
        obs_own_health: whether the agent's own health and shield are.
        full_obs: whether observations come with `full_obs`, the same without a limit of sight; distances in it are divided by 9.
        obs_last_action: whether the last actions of visible allies are.
        state_last_action: whether the state ends with all agents' last actions.
        reward_sparse: +1 for a win and -1 for a defeat instead of everything below.
        reward_only_positive: whether own losses go unpunished.
        reward_death_value: per enemy killed.
        reward_negative_scale: weight of own losses where they count.
        reward_win: on winning.
        reward_defeat: on losing (added, so a penalty is negative).
        reward_scale: whether rewards are divided so that the best return is about `reward_scale_rate`.
        reward_scale_rate: see `reward_scale`.
        unit_ranges: whether everybody sees as far as its kind does in the game, and may be ordered to attack what its own weapon
            reaches (at least 2), as in SMACv2, instead of `sight_range` and `shoot_range` for all.
        obs_own_pos: whether agents observe where on the map they are, as in SMACv2.
        reward_recovery: whether what enemies recover pays too, as it does in SMAC; in SMACv2 it does not.
        ticks_per_step: physics steps per environment step, which always lasts 8 game loops: 8 is faithful, 4, 2 and 1 are coarser.
    """

    balance: str = "liberty"
    sight_range: float = 9.0
    shoot_range: float = 6.0
    move_amount: float = 2.0
    obs_all_health: bool = True
    obs_own_health: bool = True
    full_obs: bool = False
    obs_last_action: bool = False
    state_last_action: bool = True
    reward_sparse: bool = False
    reward_only_positive: bool = True
    reward_death_value: float = 10.0
    reward_negative_scale: float = 0.5
    reward_win: float = 200.0
    reward_defeat: float = 0.0
    reward_scale: bool = True
    reward_scale_rate: float = 20.0
    ticks_per_step: int = 8
    unit_ranges: bool = False
    obs_own_pos: bool = False
    reward_recovery: bool = True

    def __post_init__(self):
        if self.balance not in BALANCES:
            raise BadSetting(f"balance is {self.balance!r}; it must be one of {', '.join(BALANCES)}")
        for name in ("sight_range", "shoot_range", "move_amount", "reward_scale_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise BadSetting(f"{name} is {value!r}; it must be a finite number above 0")
        for name in ("reward_death_value", "reward_negative_scale", "reward_win"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise BadSetting(f"{name} is {value!r}; it must be a finite number, 0 or above")
        if not math.isfinite(self.reward_defeat):
            raise BadSetting(f"reward_defeat is {self.reward_defeat!r}; it must be a finite number")
        if self.ticks_per_step not in (1, 2, 4, 8):
            raise BadSetting(f"ticks_per_step is {self.ticks_per_step!r}; it must be 1, 2, 4 or 8")


@dataclass(frozen=True)
class SkirmishSettings(SmacSettings):
    """The options of a battle whose armies are drawn, with SMACv2's defaults.

    Args:
        weights: how often each of the battle's kinds appears, in their order; only ratios matter. None: as published.
        positions: where armies appear, one of `POSITIONS`: the agents `surrounded` in the middle of the map, the armies `reflected`
            in the line that halves it, or `mixed`, either with probability a half.
    """

    unit_ranges: bool = True
    obs_own_pos: bool = True
    reward_recovery: bool = False
    weights: tuple[float, ...] | None = None
    positions: str = "mixed"

    def __post_init__(self):
        super().__post_init__()
        if self.positions not in POSITIONS:
            raise BadSetting(f"positions is {self.positions!r}; it must be one of {', '.join(POSITIONS)}")
        if self.weights is None:
            return
        try:
            weights = tuple(map(float, self.weights))
        except (TypeError, ValueError) as error:
            raise BadSetting(f"weights is {self.weights!r}; it must be a list of numbers, such as [0.45, 0.45, 0.1]") from error
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
            raise BadSetting(f"weights is {list(weights)}; each must be a finite number, 0 or above")
        object.__setattr__(self, "weights", weights)
