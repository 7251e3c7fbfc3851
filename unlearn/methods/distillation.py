"""How far a student's predictions are from a teacher's."""

from __future__ import annotations

import torch
from torch.nn.functional import kl_div, log_softmax


def divergence(teacher: torch.Tensor, student: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Mean over a batch of the Kullback-Leibler divergence of softened predictions, in nats.

    T^2 KL(softmax(teacher / T) || softmax(student / T)); the factor keeps the size of the gradient, whatever T
    [Hinton, Vinyals & Dean 2015, arXiv:1503.02531].

    Args:
        teacher: `[batch, classes]` logits.
        student: `[batch, classes]` logits.
        temperature: T > 0.

    Returns:
        A scalar.
    """
    said, taught = (log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return kl_div(said, taught, reduction="batchmean", log_target=True) * temperature**2
