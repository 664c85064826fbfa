"""Mixers: by hand, monotone where they must be, and with the same best joint action as the agents have one by one."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.methods.bases import BASES
from limbeck.methods.q_learning import QSettings
from limbeck.nets.greedy import greedy
from limbeck.nets.mixers import Attention, Duplex, Independent, Joint, JointValue, Layers, Monotonic, Sum, Unrestricted
from limbeck.types import EnvSpec

SLOTS = ((0, 2), (2, 4), (4, 6))
SPEC = EnvSpec("test", n_agents=3, n_actions=4, obs_dim=5, state_dim=7, episode_limit=10, state_slots=SLOTS)
PAIR = EnvSpec("test", n_agents=2, n_actions=2, obs_dim=1, state_dim=1, episode_limit=1)
SMALL = QSettings(embed=8, hyper=16)
MONOTONE = ("qmix", "qatten", "ow-qmix", "cw-qmix")


def make(name, key, spec=SPEC):
    return BASES[name].mixer(spec, SMALL, key)


def linear(*rows, bias=None):
    """A layer with these weights, [out, in]."""
    weight = jnp.array(rows, jnp.float32)
    layer = eqx.nn.Linear(weight.shape[1], weight.shape[0], key=jax.random.key(0))
    return eqx.tree_at(lambda m: (m.weight, m.bias), layer, (weight, jnp.zeros(len(rows)) if bias is None else jnp.array(bias)))


def layers(*each):
    return eqx.tree_at(lambda net: net.layers, Layers((1, 1), jax.random.key(0)), each)


def stacked(*nets):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *nets)


def constant(value, inputs=1):
    """A hypernetwork that gives the same numbers whatever the state is."""
    return layers(linear(*([0.0] * inputs for _ in value), bias=value))


def logit(p):
    return float(np.log(p / (1 - p)))


def some_values(key, n=200, spec=SPEC):
    """Values of all actions, states, masks: [n, ...]."""
    keys = jax.random.split(key, 3)
    q = jax.random.normal(keys[0], (n, spec.n_agents, spec.n_actions))
    avail_actions = jax.random.bernoulli(keys[2], 0.5, q.shape).at[..., 0].set(True)
    # The best of all is often unavailable: make it so that masks matter.
    return jnp.where(avail_actions, q, q + 3.0), 2 * jax.random.normal(keys[1], (n, spec.state_dim)), avail_actions


def as_joint(q, action, state, avail_actions):
    best = jnp.where(avail_actions, q, -1e9).max(-1)
    return Joint(jnp.take_along_axis(q, action[..., None], -1)[..., 0], state, best, action)


# -- by hand ---------------------------------------------------------------------------------------------------------------


def test_vdn_is_the_sum():
    q = jnp.array([[1.0, 2.0, -4.0], [0.5, 0.25, 0.0]])
    np.testing.assert_array_equal(Sum()(Joint(q, jnp.zeros((2, 6)))), [[-1.0], [0.75]])


def test_independent_learners_keep_a_value_each():
    q = jnp.array([[1.0, 2.0, -4.0], [0.5, 0.25, 0.0]])
    np.testing.assert_array_equal(Independent()(Joint(q, jnp.zeros((2, 6)))), q)


def test_a_qmix_number_by_hand():
    # Two agents, a state of one number s, two mixing units. ReLU(s) -> weights; all biases zero but where given.
    mixer = eqx.tree_at(
        lambda m: (m.w1, m.b1, m.w2, m.b2),
        Monotonic(PAIR, embed=2, hyper=1, key=jax.random.key(0)),
        (
            layers(linear([1.0]), linear([1.0], [-2.0], [3.0], [0.5])),
            linear([1.0], [-20.0], bias=[0.5, 1.0]),
            layers(linear([1.0]), linear([-1.0], [4.0])),
            layers(linear([0.0], [0.0], bias=[1.0, 2.0]), linear([10.0, -3.0])),
        ),
    )
    # s = 2:  |W1| = [[2, 4], [6, 1]] (a row per agent),  b1 = [2.5, -39],  |w2| = [2, 8],  b2 = 10 - 6 = 4
    # q = (1, -0.5):  q W1 + b1 = [2 - 3 + 2.5, 4 - 0.5 - 39] = [1.5, -35.5];  ELU = [1.5, -1 (to e^-35)]
    # Q_tot = 2 * 1.5 + 8 * -1 + 4 = -1
    assert mixer(Joint(jnp.array([1.0, -0.5]), jnp.array([2.0]))) == pytest.approx(-1.0, abs=1e-6)


def test_a_qatten_number_by_hand():
    # Two agents whose slots are one number each, two heads, embedding of four (so that scores are halved).
    spec = EnvSpec("test", 2, 2, obs_dim=1, state_dim=2, episode_limit=1, state_slots=((0, 1), (1, 2)))
    mixer = eqx.tree_at(
        lambda m: (m.queries, m.keys, m.weight, m.bias),
        Attention(spec, heads=2, embed=4, hyper=1, key=jax.random.key(0)),
        (
            stacked(constant([np.log(9.0), 1.0, 0.0, 0.0], 2), constant([0.0, 0.0, 0.0, 5.0], 2)),
            jnp.array([[[1.0, 0.0, 7.0, 7.0]], [[1.0, 1.0, 1.0, 0.0]]]),
            constant([-2.0, 3.0], 2),
            constant([0.5], 2),
        ),
    )
    # s = (2, 1). Head 1: q.k = log 9 per unit of s_i, halved: scores (log 9, log 3) -> weights (9, 3) / 12 = (3/4, 1/4).
    # Head 2: q.k = 0: weights (1/2, 1/2).   q = (4, -8):  heads 3 - 2 = 1 and -2.   |w| = (2, 3):  2 - 6 + 0.5 = -3.5
    joint = Joint(jnp.array([4.0, -8.0]), jnp.array([2.0, 1.0]))
    np.testing.assert_allclose(mixer.attention(joint.state), [[0.75, 0.25], [0.5, 0.5]], rtol=1e-6)
    assert mixer(joint) == pytest.approx(-3.5, abs=1e-5)


def a_duplex():
    # lambda: kernel 1: |key| 2, agents (1/2, 1/4), actions sigmoid(0) = 1/2 but agent 1's is 3/4 where agent 0 takes action 1;
    # kernel 2: |key| 4, agents (1/2, 1/2), actions (1/2, 1/4).
    by_action = layers(linear([0.0] * 5, [0.0, 0.0, logit(0.75), 0.0, 0.0]))
    return eqx.tree_at(
        lambda m: (m.weight, m.bias, m.keys, m.agents, m.actions),
        Duplex(PAIR, kernels=2, hyper=1, layers=1, key=jax.random.key(0)),
        (
            constant([-2.0, 3.0]),
            constant([0.5, -1.0]),
            stacked(constant([-2.0]), constant([4.0])),
            stacked(constant([0.0, logit(0.25)]), constant([0.0, 0.0])),
            stacked(by_action, constant([0.0, logit(0.25)], 5)),
        ),
    )


def test_a_qplex_number_by_hand():
    # Action (1, 0):  lambda_0 = 2 * 1/2 * 1/2 + 4 * 1/2 * 1/2 = 1.5;   lambda_1 = 2 * 1/4 * 3/4 + 4 * 1/2 * 1/4 = 0.875
    # q = (1, 2), best = (3, 2.5):  Q' = (2 * 1 + .5, 3 * 2 - 1) = (2.5, 5),  V' = (6.5, 6.5),  advantages (-4, -1.5)
    # Q_tot = 7.5 + 0.5 * -4 + (-0.125) * -1.5 = 5.6875
    mixer, state, action = a_duplex(), jnp.array([7.0]), jnp.array([1, 0])
    np.testing.assert_allclose(mixer.importance(state, action), [1.5, 0.875], rtol=1e-6)
    joint = Joint(jnp.array([1.0, 2.0]), state, jnp.array([3.0, 2.5]), action)
    assert mixer(joint) == pytest.approx(5.6875, abs=1e-6)


def test_qplex_learns_its_agents_values_through_q_alone():
    # No gradient through Q' - V': the slope by q is the weight, whatever lambda is, and best gets none.
    mixer, state, action = a_duplex(), jnp.array([7.0]), jnp.array([1, 0])
    by_q, by_best = jax.grad(lambda q, best: mixer(Joint(q, state, best, action))[0], (0, 1))(jnp.ones(2), 2 * jnp.ones(2))
    np.testing.assert_allclose(by_q, [2.0, 3.0], rtol=1e-6)
    np.testing.assert_array_equal(by_best, [0.0, 0.0])


def test_a_central_value_of_weighted_qmix_by_hand():
    # hidden 1: joint: ReLU(q0 - q1 + 2 s) -> x 3 -> x 1 -> - 4;  value: ReLU(s) -> x 10
    mixer = eqx.tree_at(
        lambda m: (m.joint, m.value),
        Unrestricted(PAIR, hidden=1, key=jax.random.key(0)),
        (
            layers(linear([1.0, -1.0, 2.0]), linear([3.0]), linear([1.0]), linear([1.0], bias=[-4.0])),
            layers(linear([1.0]), linear([10.0])),
        ),
    )
    # q = (1, 2), s = 1:  ReLU(1) * 3 - 4 + 10 = 9;   q = (1, 5): ReLU(-2) = 0: 6. Falling in q1: not monotone, as intended.
    q = jnp.array([[1.0, 2.0], [1.0, 5.0]])
    np.testing.assert_allclose(mixer(Joint(q, jnp.ones((2, 1)))), [[9.0], [6.0]], rtol=1e-6)


def test_qtrans_joint_value_by_hand():
    # One hidden number per agent, two actions. enc = ReLU([h + 10 u1, u0, u1]) times (1, 2, 3); summed; joint sees (s, enc).
    critic = eqx.tree_at(
        lambda m: (m.encode, m.joint, m.value),
        JointValue(PAIR, width=1, hidden=1, key=jax.random.key(0)),
        (
            layers(linear([1.0, 0.0, 10.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]), linear([1.0, 0, 0], [0, 2.0, 0], [0, 0, 3.0])),
            layers(linear([1.0, 1.0, 1.0, 1.0]), linear([1.0]), linear([2.0])),
            layers(linear([-1.0]), linear([1.0]), linear([5.0], bias=[0.25])),
        ),
    )
    # h = (4, -1), u = (0, 1), s = 0.5:  enc_0 = (4, 2, 0), enc_1 = (9, 0, 3); sum (13, 2, 3);  2 * (0.5 + 18) = 37.  V = 0.25
    joint = Joint(jnp.zeros(2), jnp.array([0.5]), action=jnp.array([0, 1]), hidden=jnp.array([[4.0], [-1.0]]))
    assert critic(joint) == pytest.approx(37.0, abs=1e-5)
    assert critic.value(joint.state) == pytest.approx(0.25)


# -- what must hold whatever the weights are -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MONOTONE)
def test_it_never_falls_when_an_agents_value_rises(name, seed):
    key, key_q, key_s = jax.random.split(jax.random.key(seed), 3)
    mixer = make(name, key)
    q, state = 5 * jax.random.normal(key_q, (200, 3)), 3 * jax.random.normal(key_s, (200, SPEC.state_dim))
    slope = jax.vmap(jax.grad(lambda q, s: mixer(Joint(q, s))[0]))(q, state)
    assert (slope >= 0).all()
    assert (slope > 0).mean() > 0.99, "and it does rise: a constant would be monotone too"
    ways = jax.vmap(jax.grad(lambda s, q: mixer(Joint(q, s))[0]))(state, q)
    assert (ways < 0).any() and (ways > 0).any(), "monotone in the values, not in the state"


@pytest.mark.parametrize("seed", range(3))
def test_qplex_weighs_advantages_positively_and_by_the_joint_action(seed):
    key, key_s, key_u = jax.random.split(jax.random.key(seed), 3)
    mixer = make("qplex", key)
    state = 10 * jax.random.normal(key_s, (500, SPEC.state_dim))
    action = jax.random.randint(key_u, (500, 3), 0, 4)
    importance = mixer.importance(state, action)
    assert (importance > 0).all()
    other = mixer.importance(state, action.at[:, 0].set((action[:, 0] + 1) % 4))
    assert (jnp.abs(other[:, 1:] - importance[:, 1:]) > 1e-6).any(), "what one does changes how another's advantage counts"


@pytest.mark.parametrize("name", [name for name in BASES if name != "iql"])
def test_the_agents_best_actions_are_the_best_joint_action_by_brute_force(name, key):
    key_mixer, key_values = jax.random.split(key)
    mix = make(name, key_mixer)
    q, state, avail_actions = some_values(key_values, 60)
    chosen = np.asarray(greedy(q, avail_actions))
    joint = np.array(list(itertools.product(range(4), repeat=3)))
    value = jax.vmap(lambda action: mix(as_joint(q, jnp.broadcast_to(action, (60, 3)), state, avail_actions))[..., 0])
    values = np.asarray(value(jnp.array(joint))).T
    legal = np.asarray(avail_actions)[:, np.arange(3), joint].all(-1)
    values = np.where(legal, values, -np.inf)
    for row in range(60):
        which = (joint == chosen[row]).all(-1).argmax()
        assert legal[row, which]
        assert values[row, which] == pytest.approx(values[row].max(), abs=1e-5)


def test_attention_sums_to_one_and_looks_at_each_agents_own_part_of_the_state(key):
    mixer, state = make("qatten", key), jax.random.normal(key, (50, SPEC.state_dim))
    attention = mixer.attention(state)
    assert attention.shape == (4, 50, 3)
    np.testing.assert_allclose(attention.sum(-1), 1.0, rtol=1e-5)
    # The queries read the whole state; with them held fixed, swapping two slots swaps their attention.
    fixed = eqx.tree_at(lambda m: m.queries, mixer, stacked(*[constant([1.0] * 8, SPEC.state_dim)] * 4))
    swapped = state[:, jnp.array([2, 3, 0, 1, 4, 5, 6])]
    np.testing.assert_allclose(fixed.attention(swapped)[..., jnp.array([1, 0, 2])], fixed.attention(state), rtol=1e-5)
    assert (jnp.abs(fixed.attention(swapped) - fixed.attention(state)) > 1e-3).any()


def test_what_is_not_monotone_by_design_is_not(key):
    central = Unrestricted(SPEC, hidden=16, key=key)
    q, state = jax.random.normal(key, (200, 3)), jax.random.normal(key, (200, SPEC.state_dim))
    slope = jax.vmap(jax.grad(lambda q, s: central(Joint(q, s))[0]))(q, state)
    assert (slope < 0).any() and (slope > 0).any()


def test_slots_that_do_not_follow_each_other_are_found_too():
    from limbeck.nets.slots import slots_of

    state = jnp.arange(14.0).reshape(2, 7)
    np.testing.assert_array_equal(slots_of(state, SLOTS)[0], [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(slots_of(state, ((5, 7), (0, 2)))[1], [[12, 13], [7, 8]])


@pytest.mark.parametrize("name", list(BASES))
def test_axes_before_the_agents_pass_through(name, key):
    mixer = make(name, key)
    action = jax.random.randint(key, (5, 2, 3), 0, 4)
    q, best, state = jax.random.normal(key, (5, 2, 3)), jnp.ones((5, 2, 3)), jax.random.normal(key, (5, 2, SPEC.state_dim))
    together = mixer(Joint(q, state, best, action))
    assert together.shape == (5, 2, 3 if name == "iql" else 1)
    one = jax.tree.map(lambda x: x[3, 1], Joint(q, state, best, action))
    np.testing.assert_allclose(together[3, 1], mixer(one), rtol=1e-5)


def test_a_stack_of_networks_is_each_of_them(key):
    from limbeck.nets.mixers import all_of, stack

    nets, x = stack(3, (4, 6, 2), key), jax.random.normal(key, (5, 4))
    every = all_of(nets, x)
    assert every.shape == (3, 5, 2)
    for k in range(3):
        one = jax.tree.map(lambda leaf, k=k: leaf[k], nets)
        np.testing.assert_allclose(every[k], one(x), rtol=1e-5)
    assert not np.allclose(every[0], every[1]), "each has weights of its own"
