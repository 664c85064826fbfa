"""What a policy needs in order to act: parameters, bytes and arithmetic per decision of one agent, and a team's memory."""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jaxtyping import PyTree

from limbeck.nets.teams import Team
from limbeck.types import Decision, EnvSpec, Policy


class Cost(NamedTuple):
    """Per agent. Where agents have networks of their own: the mean over the agents, in whole parameters."""

    parameters: int
    bytes: int
    """of the parameters in single precision"""
    flops: float
    """of matrix products and convolutions per decision, 2 M N K each, counted in the program: does not depend on the compiler"""
    flops_compiled: float | None
    """the compiler's own count, element by element work included; None where it gives none"""
    memory: int | None
    """the most bytes that the team holds while it decides in one world: what the compiled function reads (parameters, recurrent
    state, decision) and puts out, and its temporaries. Neither the program itself nor the runtime; None where nothing is told"""
    each: tuple[tuple[int, float], ...] | None = None
    """(parameters, flops) of every agent in a team of several networks; None where all share one"""


def cost(policy: Policy, params: PyTree, spec: EnvSpec) -> Cost:
    """What one decision of one agent costs: that of all agents in one world (B = 1), divided by their number N.

    Args:
        policy: whose `agent` says which part of the parameters it needs.
        params: the method's parameters, or their shapes.
        spec: of the world that it acts in.
    """
    agent, decision = policy.agent(params), decision_shapes(policy, spec)
    each = tuple(_of_each(agent, decision)) if isinstance(agent, Team) else None
    parameters = _size(agent) if each is None else round(sum(own for own, _ in each) / spec.n_agents)

    def act(params: PyTree, carry: PyTree, decision: Decision, key: Any) -> tuple[Any, PyTree]:
        return policy.act(params, carry, decision, key, jnp.float32(0))

    carry = jax.eval_shape(lambda: policy.init_carry(1))
    arguments = (params, carry, decision, jax.eval_shape(lambda: jax.random.key(0)))
    flops = matmul_flops(jax.make_jaxpr(act)(*arguments).jaxpr) / spec.n_agents
    compiled = jax.jit(act).lower(*arguments).compile()
    counted = (compiled.cost_analysis() or {}).get("flops")
    counted = None if counted is None else counted / spec.n_agents
    return Cost(parameters, 4 * parameters, flops, counted, held_by(compiled), each)


def held_by(compiled: Any) -> int | None:
    """Bytes of a compiled function's arguments, results and temporaries; what it does not read does not count."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    sizes = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes - found.alias_size_in_bytes
    return sizes or None


def times_fewer(own: Cost, teacher: Cost) -> dict[str, float | None]:
    """How many times more the teacher needs, as `..._ratio`; null where one's need is nothing, or not known."""
    names = ("parameters", "flops", "memory")
    return {f"{name}_ratio": ratio(getattr(teacher, name), getattr(own, name)) for name in names}


def ratio(teacher: float | None, own: float | None) -> float | None:
    """The teacher's need over one's own."""
    return teacher / own if teacher and own else None


def _of_each(team: Team, decision: Decision) -> list[tuple[int, float]]:
    """(parameters, flops) of every agent's network, in the order of the agents."""

    def alone(net: Any, decision: Decision, hidden: Any) -> Any:
        return net.head(net.step(net.drive(net.read(decision)[:, 0]), hidden), None)

    found = {}
    for net, who in zip(team.nets, team.places, strict=True):
        hidden = jax.ShapeDtypeStruct((1, net.carry_dim), jnp.float32)
        flops = matmul_flops(jax.make_jaxpr(alone)(net, decision, hidden).jaxpr)
        found |= dict.fromkeys(who, (_size(net), flops))
    return [found[i] for i in sorted(found)]


def _size(tree: PyTree) -> int:
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def matmul_flops(jaxpr: Jaxpr) -> float:
    """Multiplications and additions of all matrix products and convolutions in a program.

    A scan counts as often as it runs, a branch as its dearest case, a while loop once.
    """
    return sum(_flops(eqn) for eqn in jaxpr.eqns)


def _flops(eqn: JaxprEqn) -> float:
    match eqn.primitive.name:
        case "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            inner = prod(_shape(eqn.invars[0])[i] for i in contracted)
            return 2.0 * inner * prod(_shape(eqn.outvars[0]))
        case "conv_general_dilated":
            filters = _shape(eqn.invars[1])
            outputs = filters[eqn.params["dimension_numbers"].rhs_spec[0]]
            return 2.0 * prod(_shape(eqn.outvars[0])) * prod(filters) / outputs
        case "scan":
            return eqn.params["length"] * matmul_flops(eqn.params["jaxpr"].jaxpr)
        case "cond":
            return max(matmul_flops(branch.jaxpr) for branch in eqn.params["branches"])
        case _:
            return sum(matmul_flops(inner) for inner in _inner(eqn.params))


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value


def decision_shapes(policy: Policy, spec: EnvSpec) -> Decision:
    """The shape of one world's decision, as far as the policy may see it."""
    n = (1, spec.n_agents)
    every = {
        "obs": ((*n, spec.obs_dim), jnp.float32),
        "state": ((1, spec.state_dim), jnp.float32),
        "avail_actions": ((*n, spec.n_actions), jnp.bool_),
        "alive": (n, jnp.bool_),
        "last_action": (n, jnp.int32),
        "is_first": ((1,), jnp.bool_),
        "full_obs": ((*n, spec.obs_dim), jnp.float32),
    }
    seen: dict[str, Any] = {name: jax.ShapeDtypeStruct(*each) if name in policy.view else None for name, each in every.items()}
    return Decision(**seen)
