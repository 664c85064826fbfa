"""QTRAN-base (Son et al., ICML 2019): any joint value, and agents' values whose sum agrees with it where it matters.

    Q_jt(s, sum_i enc(h_i, u_i)), V(s)                             unrestricted
    Q'    = sum_i Q_i                                              what the agents act on
    L_td  = (Q_jt(u) - y)^2,   y = r + gamma Q_jt^-(s', u'*)       u'* = argmax_u Q_i, each agent by itself
    L_opt = (Q'(u*) - Q_jt(u*) + V)^2                              at the greedy joint action u* they must agree ...
    L_nopt = min(0, Q'(u) - Q_jt(u) + V)^2                         ... elsewhere Q' must only not be smaller
    L     = mean (L_td + l_opt L_opt + l_nopt L_nopt)

Q_jt is a constant in L_opt and L_nopt. One-step targets (`td_lambda` is 0 by default here), as in pymarl2.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.losses import masked_mean
from limbeck.methods.q_learning import Online, QParams, QSettings, joint, returns_of, td_metrics, values_of
from limbeck.nets.unroll import early, late
from limbeck.types import Segment


def qtran_loss(
    params: QParams, target: QParams, segment: Segment, online: Online, key: PRNGKeyArray, settings: QSettings
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """L_td, L_opt and L_nopt. `params.mixer` is the sum, `params.critic` holds Q_jt and V."""
    seen, (values, best) = segment.decisions, online
    lagged = values_of(target.agent, segment, key)
    taken = joint(early(values), segment.action, early(seen))
    chosen = joint(early(values), early(best), early(seen))
    returns = returns_of(segment, target.critic(joint(late(lagged), late(best), late(seen))), settings)
    q_joint, value = params.critic(taken), params.critic.value(taken.state)
    constant = jax.lax.stop_gradient
    td = (q_joint - returns.value) ** 2
    opt = (params.mixer(chosen) - constant(params.critic(chosen)) + value) ** 2
    nopt = jnp.minimum(params.mixer(taken) - constant(q_joint) + value, 0.0) ** 2
    parts = {"td": td, "opt": opt, "nopt": nopt}
    means = {name: masked_mean(part, returns.mask) for name, part in parts.items()}
    loss = means["td"] + settings.opt_weight * means["opt"] + settings.nopt_weight * means["nopt"]
    return loss, td_metrics(q_joint, returns) | {f"loss_{name}": mean for name, mean in means.items()}
