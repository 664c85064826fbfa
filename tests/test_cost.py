"""Parameters and arithmetic counted by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from limbeck.cost import cost, matmul_flops, times_fewer
from limbeck.types import LOCAL, PRIVILEGED, EnvSpec, Policy

O, S, N, A, H = 6, 5, 3, 4, 8  # noqa: E741
SPEC = EnvSpec("probe/none", N, A, obs_dim=O, state_dim=S, episode_limit=1)


def flops(function, *arguments):
    return matmul_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_matrix_product():
    assert flops(jnp.matmul, jnp.ones((3, 5)), jnp.ones((5, 7))) == 2 * 3 * 5 * 7


def test_batched_product_inside_jit_and_grad_free_wrappers():
    @jax.jit
    def product(a, b):
        return jax.checkpoint(lambda a, b: jnp.einsum("bij,bjk->bik", a, b))(a, b)

    assert flops(product, jnp.ones((2, 3, 5)), jnp.ones((2, 5, 7))) == 2 * 2 * 3 * 5 * 7


def test_scan_counts_every_turn():
    def run(a):
        return jax.lax.scan(lambda x, _: (x @ x, None), a, length=10)[0]

    assert flops(run, jnp.ones((4, 4))) == 10 * 2 * 4**3


def test_cond_counts_the_dearest_branch():
    def run(a, flag):
        return jax.lax.cond(flag, lambda x: x @ x @ x, lambda x: x @ x, a)

    assert flops(run, jnp.ones((4, 4)), True) == 2 * 2 * 4**3


def test_convolution():
    def run(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID")

    assert flops(run, jnp.ones((1, 3, 8, 8)), jnp.ones((5, 3, 3, 3))) == 2 * (5 * 6 * 6) * (3 * 3 * 3)


def mlp(view=LOCAL):
    """Linear O -> H, ReLU, Linear H -> A; with the state, Linear O + S -> H."""

    def act(params, carry, decision, key, explore):
        x = decision.obs
        if decision.state is not None:
            x = jnp.concatenate([x, jnp.broadcast_to(decision.state[:, None], (*x.shape[:2], S))], axis=-1)
        q = jax.nn.relu(x @ params["in"]) @ params["out"]
        return jnp.where(decision.avail_actions, q, -jnp.inf).argmax(-1), carry

    return Policy(act, view, lambda params: {"in": params["in"], "out": params["out"]}, lambda n: ())


@pytest.mark.parametrize(("view", "inputs"), [(LOCAL, O), (PRIVILEGED, O + S)])
def test_mlp(view, inputs):
    params = {"in": jnp.ones((inputs, H)), "out": jnp.ones((H, A)), "mixer": jnp.ones((100, 100))}
    found = cost(mlp(view), params, SPEC)
    assert found.parameters == inputs * H + H * A
    assert found.bytes == 4 * found.parameters
    assert found.flops == 2 * (inputs * H + H * A)
    assert found.flops_compiled is None or found.flops_compiled >= 0.9 * found.flops


def test_memory_is_at_least_what_is_read_and_written():
    params = {"in": jnp.ones((O, H)), "out": jnp.ones((H, A)), "mixer": jnp.ones((100, 100))}
    found = cost(mlp(), params, SPEC)
    reads = 4 * (O * H + H * A) + 4 * N * O + N * A  # parameters, observations, and what is available
    writes = 4 * N  # actions
    layers = 4 * N * (H + A)  # in single precision, at the most twice over
    assert found.memory is not None and reads + writes <= found.memory <= reads + writes + 4 * layers + 256
    assert found.memory < 4 * 100 * 100, "the mixer is not needed in order to act"


def test_times_fewer():
    def needs(width):
        return cost(mlp(), {"in": jnp.ones((O, width)), "out": jnp.ones((width, A))}, SPEC)

    teacher, student = needs(40), needs(8)
    found = times_fewer(student, teacher)
    assert found["parameters_ratio"] == found["flops_ratio"] == 5
    assert teacher.memory and student.memory and found["memory_ratio"] == teacher.memory / student.memory > 1
    nothing = times_fewer(student._replace(flops=0.0, memory=None), teacher)
    assert nothing["flops_ratio"] is None and nothing["memory_ratio"] is None


def test_shapes_are_enough():
    params = {"in": jax.ShapeDtypeStruct((O, H), jnp.float32), "out": jax.ShapeDtypeStruct((H, A), jnp.float32)}
    assert cost(mlp(), params, SPEC).parameters == O * H + H * A


def test_gru(key):
    params, static = eqx.partition(eqx.nn.GRUCell(O, H, key=key), eqx.is_array)

    def act(params, carry, decision, key, explore):
        hidden = jax.vmap(jax.vmap(eqx.combine(params, static)))(decision.obs, carry)
        return hidden[..., :A].argmax(-1), hidden

    found = cost(Policy(act, LOCAL, lambda params: params, lambda n: jnp.zeros((n, N, H))), params, SPEC)
    assert found.parameters == 3 * H * (O + H) + 3 * H + H
    assert found.flops == 2 * 3 * H * (O + H)
