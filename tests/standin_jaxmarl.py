"""Environments that speak JaxMARL's interface, and a module that makes them: for machines without JaxMARL."""

from typing import Any, NamedTuple

import jax.numpy as jnp


class Discrete:
    def __init__(self, n):
        self.n = n


class Box:
    def __init__(self, shape):
        self.shape = shape


class RoomState(NamedTuple):
    place: Any
    step: Any


class Rooms:
    """A scout and a guard walk along a line. They see different things, can do different things, and are paid differently.

    `step` resets by itself, and must not be called. The clock is read before the step is counted (`early`), or after it.
    """

    agents = ("scout", "guard")

    def __init__(self, max_steps: int | None = 4, ends: int = 99, leaves: int = 99, early: bool = True):
        if max_steps is not None:
            self.max_steps = max_steps
        self.clock, self.ends, self.leaves, self.early = max_steps or 99, ends, leaves, early

    def action_space(self, agent):
        return Discrete(2 if agent == "scout" else 3)

    def reset(self, key):
        state = RoomState(jnp.zeros(2), 0)  # a Python number, which the next step makes an array
        return self.show(state), state

    def step(self, key, state, actions, reset_state=None):
        raise AssertionError("this one resets by itself")

    def step_env(self, key, state, actions):
        late = state.step + (0 if self.early else 1) >= self.clock
        state = RoomState(state.place + jnp.stack([actions["scout"], actions["guard"]]), jnp.asarray(state.step + 1, jnp.int32))
        ended = late | (state.step >= self.ends)
        rewards = {"scout": 1.0 * actions["scout"], "guard": 3.0 * actions["guard"]}
        return (
            self.show(state),
            state,
            rewards,
            {"scout": ended | (state.step >= self.leaves), "guard": ended, "__all__": ended},
            {},
        )

    def show(self, state):
        return {"scout": state.place[:1], "guard": jnp.stack([state.place, state.place + 0.5])}

    def get_avail_actions(self, state):
        raise NotImplementedError


class Doors(Rooms):
    """The same with masks: who is in its first room cannot stay there."""

    def get_avail_actions(self, state):
        at_start = state.place == 0
        return {
            "scout": jnp.stack([~at_start[0], True]).astype(jnp.uint8),
            "guard": jnp.stack([~at_start[1], True, True]).astype(jnp.uint8),
        }


class Steering(Rooms):
    def action_space(self, agent):
        return Box((2,))


class Field(NamedTuple):
    unit_alive: Any
    unit_types: Any
    unit_weapon_cooldowns: Any


class War(NamedTuple):
    state: Field
    step: Any


class EnemySMAX:
    """Two soldiers against one: action 1 of both fells the enemy, with action 2 one falls oneself. Named as the family is."""

    agents = ("ally_0", "ally_1")
    num_allies, num_enemies = 2, 1
    own_features = ("health", "x", "y", "cooldown", "rifle", "sword", "bow")
    unit_type_names = ("rifle", "sword", "bow")
    unit_type_weapon_cooldowns = jnp.array([0.5, 2.0, 4.0])
    map_width, map_height = 32, 16

    def __init__(self, max_steps=3, scenario=None):
        self.max_steps, self.scenario = max_steps, scenario

    def action_space(self, agent):
        return Discrete(3)

    def reset(self, key):
        war = War(Field(jnp.ones(3, bool), jnp.array([0, 1, 2], jnp.uint8), jnp.array([0.25, 1.0, -1.0])), jnp.array(0))
        return self.show(war), war

    def step_env(self, key, state, actions):
        told = jnp.stack([actions[agent] for agent in self.agents])
        alive = state.state.unit_alive & jnp.append(told != 2, ~(told == 1).all())
        war = War(state.state._replace(unit_alive=alive), state.step + 1)
        over = ~alive[:2].any() | ~alive[2] | (state.step >= self.max_steps)
        return self.show(war), war, dict.fromkeys(self.agents, 1.0), {"ally_0": ~alive[0], "ally_1": ~alive[1], "__all__": over}, {}

    def show(self, war):
        alive, kinds, cooldown = war.state
        place = jnp.array([[8.0, 8.0], [16.0, 4.0], [32.0, 16.0]])
        bits = (kinds[:, None] == jnp.arange(3)[None]).astype(jnp.float32)
        table = jnp.concatenate([jnp.ones((3, 1)), place, cooldown[:, None], bits], axis=1) * alive[:, None]
        world = jnp.concatenate([table.ravel(), jnp.array([0.0, 0.0, 1.0]), kinds])
        return {agent: jnp.full(2, i) for i, agent in enumerate(self.agents)} | {"world_state": world}

    def get_avail_actions(self, state):
        return dict.fromkeys(self.agents, jnp.ones(3, jnp.uint8))


class SMAX(Rooms):
    """Both armies are agents."""


KINDS = {"rooms": Rooms, "doors": Doors, "steering": Steering, "war": EnemySMAX, "SMAX": SMAX}
registered_envs = [*KINDS]


def make(name, **options):
    return KINDS[name](**options)
