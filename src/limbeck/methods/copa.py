"""COPA: a coach sees all and tells each player, every few steps, what to play (Liu et al., ICML 2021).

    z_i ~ N(mu_i, exp(v_i))       from attention among all units of the state, v_i within [-10, 0] (`nets/personalise.py`)
    z_i is sent at steps 0, T, 2 T, ... of an episode and held in between, T = `interval`        (`nets/broadcast.py`)
    Q_i = Linear([ReLU(Linear(h_i)), z_i])                                                       trained by any mixer's loss

So that what is said shows in what is done, the mutual information between z_i and the player's next steps, given the state, is kept
high, by a network q that guesses z_i from them, and so is the entropy of what the coach might say:

    L = L_TD + (lambda / 2) ( -log q(z_i | x_i^{t+1}, ..., x_i^{t+T-1}, s^t)  -  H(z_i) / 10 )           at moments t of sending

-log q is a sum over the numbers of z_i, each log-probability within [-1000, 0]; H is a mean over them, each within [0, 10]
(authors' code). lambda is theirs; the half is there because our L_TD is half the squared error. An x_i holds the action before it.

`variant="ptde"` is what PTDE's authors ran under COPA's name: no attention, no q, one linear map of the state for all players, new
at every step. It is the same as `ptde` with `personaliser="giu"`.

Not reproduced: the players' attention over what they see (ours are PyMARL's agents), the mixer whose weights come from the coach's
encoding (any mixer here), sending only when z has changed enough, teams that change. Our resolutions: q is one Gaussian from the
whole interval and the whole state, as the paper writes it (code: one per step, by attention, all multiplied); intervals that an
episode's or a segment's end cuts short, and players dead when z is sent, do not count; sizes are those of the other methods (64; in
the code 128).
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from limbeck.errors import NotOffered, unknown
from limbeck.losses import masked_mean
from limbeck.methods.bases import learn_on_base
from limbeck.methods.q_learning import QParams, QSettings, online_key
from limbeck.nets.agents import affine, local_dim, local_input
from limbeck.nets.broadcast import Broadcast
from limbeck.nets.carried import Carried
from limbeck.nets.fusion import lists_units
from limbeck.nets.greedy import q_policy
from limbeck.nets.personalise import CoachLatent, PersonalisedAgent, UnifiedLatent
from limbeck.nets.unroll import unroll
from limbeck.types import PRIVILEGED, Algorithm, Decision, EnvSpec, Segment

VARIANTS = ("coach", "ptde")


@dataclass(frozen=True)
class COPASettings(QSettings):
    """Q-learning's settings, and the coach's."""

    variant: str = "coach"
    """coach: the paper's, by attention over units; ptde: the baseline of PTDE's authors, one map of any state for all agents"""
    interval: int = 4
    """coach: steps between two broadcasts (T)"""
    latent: int = 64
    """size of z, and of the coach's layers"""
    vi_weight: float = 1e-3
    """coach: lambda, the weight of the variational term beside the squared TD error; its entropy weighs a tenth of that"""
    var_floor: float = 0.01
    """ptde: smallest variance of z"""


def build(spec: EnvSpec, settings: COPASettings = COPASettings(), **changes: Any) -> Algorithm:
    """COPA on any mixer. `changes` replace single settings, such as `variant="ptde"`.

    Raises:
        UnknownName: there is no such variant or mixer.
        NotOffered: the coach or the mixer reads what the world does not have.
        BadSetting: an interval that makes no sense.
    """
    settings = replace(settings, **changes)
    if settings.variant not in VARIANTS:
        raise unknown("variant", settings.variant, VARIANTS)
    if settings.variant == "coach" and not lists_players(spec):
        what = f"COPA's coach reads the agents' units one by one, and the state of {spec.name} does not list them"
        raise NotOffered(what, lists_players, "variant 'ptde' reads any state")

    def make_agent(key: PRNGKeyArray) -> "PersonalisedAgent | Coached":
        key_latent, key_agent, key_recogniser = jax.random.split(key, 3)
        if settings.variant == "ptde":
            unified = UnifiedLatent(spec, settings.latent, settings.var_floor, key_latent)
            return PersonalisedAgent(spec, settings.hidden, settings.latent, unified, key_agent)
        coach = CoachLatent(spec, settings.latent, key_latent)
        players = Broadcast(PersonalisedAgent(spec, settings.hidden, settings.latent, coach, key_agent), settings.interval)
        return Coached(players, Recogniser(spec, settings.hidden, settings.latent, settings.interval, key_recogniser))

    if settings.variant == "ptde":
        return learn_on_base(spec, settings, make_agent, PRIVILEGED)

    def inform(params: QParams, segment: Segment, key: PRNGKeyArray, steps: Array) -> tuple[Array, dict[str, Array]]:
        agent: Any = params.agent
        surprise, freedom = variational_terms(agent, sent_in(agent.players, segment, online_key(key)))
        return 0.5 * settings.vi_weight * (surprise - freedom / 10), {"surprise": surprise, "entropy": freedom}

    algorithm = learn_on_base(spec, settings, make_agent, PRIVILEGED, inform)
    learned = algorithm.policies["greedy"]
    played = q_policy(lambda params: params.agent.players, PRIVILEGED, learned.init_carry)  # who plays needs no recogniser
    return replace(algorithm, policies={"greedy": played})


def lists_players(spec: EnvSpec) -> bool:
    """Whether the state has a slot for every agent, so that attention can tell one from the other."""
    return bool(spec.state_slots) and lists_units(spec)


# -- the variational term --------------------------------------------------------------------------------------------------


class Recogniser(eqx.Module):
    """q: what a player lives through until the next broadcast -> mean and log-variance of what it may have been told."""

    first: eqx.nn.Linear
    mean: eqx.nn.Linear
    log_var: eqx.nn.Linear

    def __init__(self, spec: EnvSpec, hidden: int, out: int, interval: int, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.first = eqx.nn.Linear(spec.state_dim + (interval - 1) * local_dim(spec), hidden, key=keys[0])
        self.mean = eqx.nn.Linear(hidden, out, key=keys[1])
        self.log_var = eqx.nn.Linear(hidden, out, key=keys[2])

    def __call__(self, state: Float[Array, "... S"], future: Float[Array, "... N F"]) -> tuple[Array, Array]:
        """The state when z was sent, and each player's inputs after that in a row -> moments of z [..., N, Z]."""
        shared = jnp.broadcast_to(state[..., None, :], (*future.shape[:-1], state.shape[-1]))
        seen = jax.nn.relu(affine(self.first, jnp.concatenate([shared, future], axis=-1)))
        return affine(self.mean, seen), jnp.clip(affine(self.log_var, seen), -10.0, 0.0)


class Coached(eqx.Module):
    """Players, their coach, and the recogniser, which only the loss looks at."""

    players: Broadcast
    recogniser: Recogniser

    @property
    def carry_dim(self) -> int:
        """That of the players."""
        return self.players.carry_dim

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[Any, Any]:
        """As the players."""
        return self.players.encode(decisions, key)

    def step(self, drive: Any, hidden: Array) -> Array:
        """As the players."""
        return self.players.step(drive, hidden)

    def head(self, hidden: Array, extra: Any) -> Array:
        """As the players."""
        return self.players.head(hidden, extra)


class Sent(NamedTuple):
    """K moments in every world at which a coach spoke, with what followed."""

    state: Float[Array, "K B S"]
    x: Float[Array, "K B N D"]
    noise: Float[Array, "K B N Z"]
    """with which z was sampled"""
    future: Float[Array, "K B N F"]
    """x at the T - 1 decisions that follow, in a row"""
    counts: Float[Array, "K B N"]
    """0 for players who were dead, and where there are fewer than K moments"""


def variational_terms(agent: Coached, sent: Sent) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(-log q(z | what followed), H(z)), means over what was sent."""
    mean, var = agent.players.agent.latent.moments(sent.x, sent.state)
    assert var is not None
    z = mean + jnp.sqrt(var) * sent.noise
    surprise = -log_likelihood(z, *agent.recogniser(sent.state, sent.future)).sum(-1)
    return masked_mean(surprise, sent.counts), masked_mean(entropy(var).mean(-1), sent.counts)


def sent_in(players: Broadcast, segment: Segment, key: PRNGKeyArray) -> Sent:
    """What was sent in a segment, wherever the whole interval after it can be seen.

    `key` is that of the players' unroll, so that z is the very one from which the values came. Of the unroll, the clock and the
    noise alone are repeated; the coach is asked again at these moments only, which are one decision in T.
    """
    seen, interval = segment.decisions, players.interval
    carry = segment.carry0.agent if isinstance(segment.carry0, Carried) else segment.carry0
    silent = eqx.tree_at(lambda p: p.agent, players, Noise(players.agent.latent_dim))
    _, hidden, _ = unroll(silent, carry[..., players.agent.carry_dim :], seen, key)
    spoken = (hidden[..., 0, -1] == 1 % interval) & whole(seen.is_first, interval)
    length = seen.is_first.shape[0]
    moments = jnp.argsort(~spoken, axis=0)[: max(length // interval, 1)]  # [K, B], those that were spoken at before the others
    x = local_input(seen, players.agent.out.weight.shape[0])

    def at(array: Array, after: int = 0) -> Array:
        index = jnp.minimum(moments + after, length - 1).reshape(*moments.shape, *[1] * (array.ndim - 2))
        return jnp.take_along_axis(array, index, axis=0)

    later = [at(x, k) for k in range(1, interval)]
    future = jnp.concatenate([jnp.zeros((*moments.shape, x.shape[2], 0)), *later], axis=-1)
    counts = at(seen.alive) & at(spoken)[..., None]
    return Sent(at(seen.state), at(x), at(hidden[..., :-1]), future, counts.astype(jnp.float32))


class Noise(eqx.Module):
    """The noise in an agent's latents and nothing else: unrolled with the same key, it gives the same numbers."""

    latent_dim: int = eqx.field(static=True)

    @property
    def carry_dim(self) -> int:
        """It has no core."""
        return 0

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[Array, Array]:
        """As `PersonalisedAgent` samples it."""
        shape = decisions.last_action.shape
        return jnp.zeros((*shape, 0)), jax.random.normal(key, (*shape, self.latent_dim))

    def step(self, drive: Array, hidden: Array) -> Array:
        """Nothing moves."""
        return hidden

    def head(self, hidden: Array, extra: Array) -> Array:
        """The noise in force."""
        return extra


def whole(is_first: Bool[Array, "L B"], interval: int) -> Bool[Array, "L B"]:
    """Whether a decision and the `interval` - 1 after it are there and of one episode."""
    beyond = jnp.ones((interval, is_first.shape[1]), bool)  # what is not there is not of this episode
    later = jnp.concatenate([is_first[1:], beyond])
    cut = [later[k : k + is_first.shape[0]] for k in range(interval - 1)]
    return ~jnp.stack([*cut, jnp.zeros_like(is_first)]).any(0)


def log_likelihood(z: Float[Array, "*b"], mean: Float[Array, "*b"], log_var: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """log N(z; mean, exp(log_var)), number by number, within [-1000, 0]: a density above 1 gains nothing."""
    return jnp.clip(-0.5 * ((z - mean) ** 2 * jnp.exp(-log_var) + log_var + jnp.log(2 * jnp.pi)), -1000.0, 0.0)


def entropy(var: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Of a normal variable, within [0, 10]: below 0, nothing pulls at the variance."""
    return jnp.clip(0.5 * jnp.log(2 * jnp.pi * jnp.e * var), 0.0, 10.0)
