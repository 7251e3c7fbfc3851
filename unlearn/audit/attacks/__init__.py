"""Membership-inference attacks: one a file, all with scores that are higher where membership is more likely."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from unlearn.audit.attacks import (
    confidence_gap,
    difficulty,
    ensemble,
    entropy,
    gradient_norm,
    label_only,
    lira,
    loss,
    quantile,
    rmia,
    shokri,
    tokens,
    u_lira,
    update_leakage,
)
from unlearn.audit.attacks.base import Attack

_ALL = (
    Attack(loss.CARD, loss.loss_score),
    Attack(entropy.ENTROPY, entropy.entropy_score),
    Attack(entropy.MODIFIED, entropy.modified_entropy_score),
    Attack(confidence_gap.CARD, confidence_gap.confidence_gap),
    Attack(shokri.CARD, shokri.fit_shokri),
    Attack(difficulty.CARD, difficulty.difficulty_score),
    Attack(lira.ONLINE, lira.lira_online),
    Attack(lira.ONLINE_FIXED, lira.lira_online_fixed),
    Attack(lira.OFFLINE, lira.lira_offline),
    Attack(lira.OFFLINE_FIXED, lira.lira_offline_fixed),
    Attack(rmia.CARD, rmia.rmia_score),
    Attack(quantile.CARD, quantile.fit_quantile),
    Attack(label_only.GAP, label_only.label_gap),
    Attack(label_only.AUGMENTATION, label_only.label_augmentation),
    Attack(gradient_norm.CARD, gradient_norm.gradient_norm_score),
    Attack(u_lira.CARD, u_lira.u_lira),
    Attack(ensemble.SHARD_LIRA, ensemble.shard_lira),
    Attack(ensemble.JACKKNIFE, ensemble.ensemble_jackknife),
    Attack(update_leakage.CARD, update_leakage.fit_update_leakage),
    Attack(tokens.MIN_K, tokens.min_k),
    Attack(tokens.MIN_K_PLUS_PLUS, tokens.min_k_plus_plus),
    Attack(tokens.ZLIB, tokens.zlib_ratio),
    Attack(tokens.REFERENCE, tokens.reference_ratio),
)

ATTACKS: Mapping[str, Attack] = MappingProxyType({attack.card.name: attack for attack in _ALL})
"""Every attack by name."""
