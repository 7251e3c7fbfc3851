"""Certified removal for convex models: fit, forget, and a certificate that claims what is proven."""

from unlearn.methods.certified.backbone import PublicBackbone
from unlearn.methods.certified.certificate import Budget, Certificate
from unlearn.methods.certified.head import METHOD, CertifiedRemovalConfig, certified_removal
from unlearn.methods.certified.mechanism import Claim, Mechanism
from unlearn.methods.certified.objective_perturbation import DataDependent, ObjectivePerturbation, WorstCase
from unlearn.methods.certified.output_perturbation import OutputPerturbation
from unlearn.methods.certified.removal import CertifiedRemoval

__all__ = [
    "METHOD",
    "Budget",
    "Certificate",
    "CertifiedRemoval",
    "CertifiedRemovalConfig",
    "Claim",
    "DataDependent",
    "Mechanism",
    "ObjectivePerturbation",
    "OutputPerturbation",
    "PublicBackbone",
    "WorstCase",
    "certified_removal",
]
