"""Two teams that follow a script, as anchors for tables of results: what a learner should leave behind.

    table = evaluate(env, {**baselines(env), "qmix": trained})

Both read the positions and points of all units from the global state, so they are privileged. `nearest` attacks what is nearest.
`focus` shoots the weakest enemy that its weapon reaches, and runs from enemies that have shorter weapons and are not faster, while
its own weapon is not ready. In both, healers heal the worst off that they may heal.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from limbeck.envs.smac.bodies import Bodies
from limbeck.envs.smac.drawn import DrawnFacts
from limbeck.envs.smac.facts import Facts
from limbeck.envs.smac.observe import DIRECTIONS, N_MOVES, enemy_slots, state_slots
from limbeck.envs.smac.terrain import SIZE
from limbeck.envs.smac.world import Smac
from limbeck.types import Decision, Policy

FAR = 1e3
"""instead of the distance to the dead"""
READY = 2.0
"""loops before a weapon is ready, from which on it pays to turn to the enemy"""
OUTRANGES = 2.0
"""by how much a weapon must reach farther for its owner to run from the other's"""
LOOK_AHEAD = 3.0
"""cells: how far the runner looks, and"""
EDGE, EDGE_WEIGHT = 6.0, 0.05
"""how near to the end of the world it begins to mind it, and how much"""


class Scene(NamedTuple):
    """What a script looks at: B worlds, N allies, E enemies, U both."""

    pos: Float[Array, "B U 2"]
    points: Float[Array, "B U"]
    """health and shield"""
    share: Float[Array, "B U"]
    """of full health"""
    loops: Float[Array, "B N"]
    """until the weapon is ready"""
    distance: Float[Array, "B N E"]
    """to enemies that are alive and can be hit"""
    avail: Bool[Array, "B N A"]
    facts: Facts
    """of these worlds"""


def baselines(env: Smac) -> dict[str, tuple[Policy, PyTree]]:
    """The two scripts for a battle, by name, ready for `evaluate`; they have no parameters."""
    scripts = {"nearest": nearest, "focus": focus}
    return {name: (_policy(env, script), {}) for name, script in scripts.items()}


def _policy(env: Smac, script) -> Policy:
    def act(params: PyTree, carry: PyTree, decision: Decision, key: Array, explore: Array) -> tuple[Array, PyTree]:
        scene = look(env, decision)
        heals = _worlds_first(scene.facts, scene.facts.heals[env.facts.allies])
        action = jnp.where(heals, heal(env, scene), script(env, scene))
        return jnp.where(decision.alive, action, 0).astype(jnp.int32), carry

    return Policy(act, ("state", "avail_actions", "alive"), lambda params: params, lambda worlds: ())


def look(env: Smac, decision: Decision) -> Scene:
    """The scene behind a state vector."""
    state = decision.state

    def side(slots: tuple[tuple[int, int], ...], place: int, shields: bool | None) -> tuple[Array, Array, Array, Array, Array]:
        block = jnp.stack([state[:, start:stop] for start, stop in slots], axis=1)
        shield = block[..., place + 2] if shields else jnp.zeros_like(block[..., 0])
        kind = block[..., -max(env.map.type_bits, 1) :].argmax(-1)
        return block[..., 0], block[..., place : place + 2] * SIZE + SIZE / 2, shield, block[..., 1], kind

    health, pos, shield, ready, kind = side(state_slots(env.map), 2, env.map.ally_shields)
    other_health, other_pos, other_shield, _, other_kind = side(enemy_slots(env.map), 1, env.map.enemy_shields)
    share, shield = jnp.concatenate([health, other_health], 1), jnp.concatenate([shield, other_shield], 1)
    facts = _facts_of(env, jnp.concatenate([kind, other_kind], axis=1).T)
    apart = jnp.linalg.norm(pos[:, :, None] - other_pos[:, None], axis=-1)
    targets = (other_health > 0)[:, None] & _worlds_first(facts, facts.can_hit(facts.allies, facts.enemies))
    return Scene(
        pos=jnp.concatenate([pos, other_pos], axis=1),
        points=share * _worlds_first(facts, facts.column("health")) + shield * _worlds_first(facts, facts.column("shield")),
        share=share,
        loops=ready * _worlds_first(facts, facts.column("cooldown_scale")[facts.allies]),
        distance=jnp.where(targets, apart, FAR),
        avail=decision.avail_actions,
        facts=facts,
    )


def _facts_of(env: Smac, kind: Int[Array, "U B"]) -> Facts:
    """The facts behind the type features of a state; those of the dead, who show none, do not matter."""
    if not isinstance(env.facts, DrawnFacts):
        return env.facts
    none = jnp.zeros(kind.shape)
    return env.facts.of(Bodies(none, none, none, none, none, kind, kind=kind))


def _worlds_first(facts: Facts, values: Any) -> Array:
    """A fact `[..., U]`, or `[..., U, B]` where units are drawn, as `[B or 1, ..., U]`."""
    return jnp.moveaxis(values, -1, 0) if isinstance(facts, DrawnFacts) else jnp.asarray(values)[None]


def nearest(env: Smac, scene: Scene) -> Int[Array, "B N"]:
    """Attack the nearest enemy that an order may name, else walk towards the nearest there is."""
    near = jnp.where(_open(env, scene), scene.distance, FAR)
    return jnp.where((near < FAR).any(-1), N_MOVES + near.argmin(-1), approach(env, scene))


def focus(env: Smac, scene: Scene) -> Int[Array, "B N"]:
    """Attack the weakest within reach of the weapon, and keep out of reach of theirs while it is not ready."""
    facts = scene.facts
    reach = _worlds_first(facts, facts.reach(facts.allies, facts.enemies))
    struck = _worlds_first(facts, facts.reach(facts.enemies, facts.allies)).swapaxes(1, 2)  # how far they reach
    in_reach = _open(env, scene) & (scene.distance <= reach)
    weak = jnp.where(in_reach, scene.points[:, None, facts.enemies], np.inf)
    fight = jnp.where(in_reach.any(-1), N_MOVES + weak.argmin(-1), nearest(env, scene))
    speed = _worlds_first(facts, facts.column("speed"))
    outruns = (reach >= struck + OUTRANGES) & (speed[:, facts.allies, None] >= speed[:, None, facts.enemies] - 1e-3)
    alive = scene.distance < FAR
    kites = jnp.where(alive, outruns, True).all(-1)
    danger = jnp.where(alive, scene.distance - 2 * struck, FAR).min(-1) < 0
    close = jnp.where(alive, scene.distance - (reach - 1.6), FAR).min(-1) < 0
    runs = kites & close & (danger | (scene.loops > READY))
    moves = scene.avail[:, :, 2:N_MOVES].any(-1)
    return jnp.where(runs & moves, flee(env, scene), fight)


def approach(env: Smac, scene: Scene) -> Int[Array, "B N"]:
    """A step towards the nearest enemy; along the wall where there is one; stop without an enemy that can be hit."""
    facts = env.facts
    goal = jnp.take_along_axis(scene.pos[:, facts.enemies], scene.distance.argmin(-1)[..., None], axis=1)
    return jnp.where((scene.distance < FAR).any(-1), _towards(env, scene, goal), 1)


def flee(env: Smac, scene: Scene) -> Int[Array, "B N"]:
    """A step to where the enemies are fewer and farther, and the end of the walkable ground is not near."""
    facts = env.facts
    ground = np.array(env.map.walkable)
    low, high = ground[:, :2].min(axis=0), ground[:, 2:].max(axis=0)
    ahead = scene.pos[:, facts.allies, None] + LOOK_AHEAD * DIRECTIONS[None, None]
    away = jnp.linalg.norm(ahead[:, :, :, None] - scene.pos[:, None, None, facts.enemies], axis=-1)
    alive = (scene.share[:, facts.enemies] > 0)[:, None, None]
    threat = jnp.where(alive, 1 / (away + 0.1) ** 2, 0.0).sum(-1)
    edge = jnp.minimum(ahead - low[None, None, None], high[None, None, None] - ahead).min(-1)
    cost = threat + EDGE_WEIGHT * jnp.maximum(EDGE - edge, 0)
    return 2 + jnp.where(scene.avail[:, :, 2:N_MOVES], cost, np.inf).argmin(-1)


def heal(env: Smac, scene: Scene) -> Int[Array, "B N"]:
    """Heal the wounded that is worst off; with nobody wounded in reach, stay with the wounded, or with the others."""
    facts, n = scene.facts, env.facts.n_allies
    share = scene.share[:, facts.allies][:, None]
    width = min(n, env.map.n_orders)
    opens = scene.avail[:, :, N_MOVES : N_MOVES + width] & (share[..., :width] < 0.999)
    worst = jnp.where(opens, share[..., :width], np.inf).argmin(-1)
    fighters = (share > 0) & ~_worlds_first(facts, facts.heals[facts.allies])[:, None]
    goal = jnp.where(fighters, share, np.inf).argmin(-1)  # [B, 1]: the same friend for all healers
    place = jnp.take_along_axis(scene.pos[:, facts.allies], goal[..., None], axis=1)
    follow = _towards(env, scene, jnp.broadcast_to(place, (*place.shape[:1], n, 2)))
    return jnp.where(opens.any(-1), N_MOVES + worst, follow)


def _towards(env: Smac, scene: Scene, goal: Float[Array, "B N 2"]) -> Int[Array, "B N"]:
    """The available step that leads farthest towards a place; stop where none does."""
    apart = goal - scene.pos[:, env.facts.allies]
    gain = jnp.where(scene.avail[:, :, 2:N_MOVES], (apart[:, :, None] * DIRECTIONS[None, None]).sum(-1), -FAR)
    return jnp.where(gain.max(-1) > 1.0, 2 + gain.argmax(-1), 1)


def _open(env: Smac, scene: Scene) -> Bool[Array, "B N E"]:
    """Which enemies an order may name, and a weapon can hit."""
    facts = env.facts
    return scene.avail[:, :, N_MOVES : N_MOVES + facts.n_enemies] & (scene.distance < FAR)
