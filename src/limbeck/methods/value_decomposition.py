"""IQL, VDN, QMIX, Qatten and QPLEX: the same loss on what different mixers make of the agents' values.

    Q_tot = mix(Q_1, ..., Q_n; s)    nothing (IQL, Tan 1993), the sum (VDN, Sunehag et al. 2018), a monotone network (QMIX, Rashid
                                     et al. 2018), attention (Qatten, Yang et al. 2020), values and advantages apart (QPLEX, Wang
                                     et al. 2021); each is one class in `limbeck.nets.mixers`
    y     = TD(lambda) of the lagged Q_tot at u' = argmax_u Q_i (the learning network's argmax: double Q)
    L     = mean of (Q_tot - y)^2 / 2 over true transitions

The fine-tuned recipe (Adam, TD(0.6), parallel worlds) is that of Hu et al. 2021 (pymarl2).
"""

from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.losses import masked_mean
from limbeck.methods.q_learning import Online, QParams, QSettings, joint, returns_of, td_metrics, values_of
from limbeck.nets.unroll import early, late
from limbeck.types import Segment


def td_loss(
    params: QParams, target: QParams, segment: Segment, online: Online, key: PRNGKeyArray, settings: QSettings
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Masked double-Q TD(lambda) loss on Q_tot. Gradients flow through `params` only."""
    seen, lagged = segment.decisions, values_of(target.agent, segment, key)
    q_tot = params.mixer(joint(early(online.values), segment.action, early(seen)))
    returns = returns_of(segment, target.mixer(joint(late(lagged), late(online.best), late(seen))), settings)
    return 0.5 * masked_mean((q_tot - returns.value) ** 2, returns.mask), td_metrics(q_tot, returns)
