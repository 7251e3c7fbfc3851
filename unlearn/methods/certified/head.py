"""Certified removal as a method: `(model, forget, retain, config) → model`, for a linear head on a frozen body."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from shards.noise import system_normal
from unlearn.audit.epsilon.gdp import gdp_epsilon
from unlearn.errors import BudgetSpentError, ConfigurationError, InputError
from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard
from unlearn.methods.certified.backbone import PublicBackbone
from unlearn.methods.certified.mechanism import Noise
from unlearn.methods.certified.output_perturbation import OutputPerturbation
from unlearn.methods.certified.problem import Problem, logistic, squared
from unlearn.methods.certified.settling import settle
from unlearn.methods.training import problem as problem_of


@dataclass(frozen=True)
class CertifiedRemovalConfig:
    """What is promised, and by how much noise.

    Attributes:
        regularisation: λ for each example; the intercept is penalised like the rest.
        epsilon: Promised for the model returned.
        delta: Its delta.
        scale: Standard deviation of the noise on each weight.
        tolerance: Gradient norm that is left for each row and head.
        noise: Where noise comes from: secret and fresh. A seed would make it guessable, so there is none; a test may
            give a generator of its own.
    """

    regularisation: float = 1e-3
    epsilon: float = 1.0
    delta: float = 1e-4
    scale: float = 1e-3
    tolerance: float = 1e-10
    noise: Noise = system_normal


def certified_removal(
    model: torch.nn.Module,
    forget: object,
    retain: object,
    config: CertifiedRemovalConfig | None = None,
    *,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """The head's optimum on what remains, one-vs-rest or least squares, with fresh noise.

    One request about one model; `CertifiedRemoval` keeps a budget over many.

    Args:
        model: A `Linear`, or a `Sequential` that ends in one and has no other trainable parameter.
        forget: Examples to forget; they only have to be like the others.
        retain: Examples that stay.
        config: None: the defaults.
        advance: Told of the examples visited.

    Returns:
        A copy with a new head.

    Raises:
        ConfigurationError: If the model is not convex in what is trained.
        InputError: If nothing is to be forgotten or retained, or the two overlap or do not fit the model.
        BudgetSpentError: If this noise cannot keep the promise.
    """
    config = config or CertifiedRemovalConfig()
    new = copy.deepcopy(model)
    body, head = _split(new)
    # A single logit is no output that the checks of classifiers know.
    loss = torch.nn.functional.binary_cross_entropy_with_logits if head.out_features == 1 else None
    kept = problem_of(METHOD.card, model, forget, retain, loss).retain
    problem = _problem(body, head, kept, config)
    mechanism = OutputPerturbation(config.scale, config.tolerance)
    start = head.weight.detach().to("cpu", torch.float64).T
    if head.bias is not None:
        start = torch.cat([start, head.bias.detach().to("cpu", torch.float64)[None]])
    weights, _ = settle(problem, start.contiguous(), (), config.tolerance * len(problem))
    epsilon = gdp_epsilon(mechanism.charge(problem, weights), config.delta)
    if epsilon > config.epsilon:
        raise BudgetSpentError(
            f"noise of {config.scale:g} on the weights gives epsilon {epsilon:.4g}, and {config.epsilon:g} is "
            "promised: raise the scale, or lower the tolerance"
        )
    _put(head, mechanism.publish(weights, config.noise))
    if advance is not None:
        advance(len(kept))
    return new


def _split(model: torch.nn.Module) -> tuple[torch.nn.Module, torch.nn.Linear]:
    body: torch.nn.Module = torch.nn.Identity()
    head = model
    if isinstance(model, torch.nn.Sequential) and len(model):
        body, head = model[:-1], model[-1]
    if not isinstance(head, torch.nn.Linear) or any(weight.requires_grad for weight in body.parameters()):
        raise ConfigurationError(
            "a certificate needs a convex problem: a torch.nn.Linear, or a Sequential that ends in one and whose other "
            "parameters are frozen (requires_grad_(False)) and public. For a network that was trained as a whole none "
            "is ever issued"
        )
    return body, head


def _problem(body: torch.nn.Module, head: torch.nn.Linear, kept: Examples, config: CertifiedRemovalConfig) -> Problem:
    features = PublicBackbone(body, unit=False, intercept=head.bias is not None)(kept.inputs)
    inputs, outputs = torch.from_numpy(features), head.out_features
    if kept.task == "regression":
        targets = kept.targets.to("cpu", torch.float64).reshape(len(kept), -1)
        if targets.shape[1] != outputs:
            raise InputError(f"the head has {outputs} outputs, and there are {targets.shape[1]} targets")
        return Problem(inputs, targets, squared(config.regularisation))
    classes = torch.arange(outputs) if outputs > 1 else torch.ones(1, dtype=torch.int64)
    labels = kept.targets.to("cpu")
    if not 0 <= int(labels.min()) <= int(labels.max()) < max(2, outputs):
        raise InputError(f"class numbers must be from 0 to {max(2, outputs) - 1} for a head of {outputs} outputs")
    return Problem(inputs, (labels[:, None] == classes).to(torch.int64), logistic(config.regularisation))


def _put(head: torch.nn.Linear, published: torch.Tensor) -> None:
    with torch.no_grad():
        head.weight.copy_(published[: head.in_features].T)
        if head.bias is not None:
            head.bias.copy_(published[head.in_features])


METHOD = Method(
    card=MethodCard(
        name="certified_removal",
        title="Certified removal from a linear head",
        guarantee=Guarantee.CERTIFIED,
        needs=("retain set", "labels", "training configuration"),
        tasks=("classification", "regression"),
        citation="Guo, Goldstein, Hannun and van der Maaten 2020, arXiv 1911.03030; noise as in decision 0028",
        statement=(
            "What is returned differs from a head retrained without the forgotten records by at most (epsilon, delta), "
            "if everything below the head is public and never saw them. The head becomes one-vs-rest logistic "
            "regression, or ridge regression."
        ),
        uses_retain=True,
        moves_towards_retraining=True,
    ),
    function=certified_removal,
    config=CertifiedRemovalConfig,
)
"""The entry of the registry."""
