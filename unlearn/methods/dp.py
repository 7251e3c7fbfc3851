r"""Differential privacy as unlearning: what was trained privately may stay as it is, for so many deletions.

If training A is differentially private, then A(D) is close to A(D - F) for every F of k records, and leaving the model
alone unlearns them: with U the identity, for every event T,

\(\Pr[A(D) \in T] \le e^{\varepsilon_k} \Pr[A(D - F) \in T] + \delta\), and the other way round.

\(\varepsilon_k\) is the *group's*, and grows faster than k. So a model has a *capacity*: the largest k whose
\(\varepsilon_k\) is still what was promised. Within it, forget without retraining; beyond it, refuse or retrain.

The bound is for Poisson-sampled DP-SGD (Ganesh 2024, arXiv 2401.10294): T-fold composition of a mixture of Gaussians
with sensitivities 0..k and weights Bin(k, q), as a privacy loss distribution rounded pessimistically; see
`unlearn.audit.epsilon.upper`, where the generic group rule is too. For shuffled batches no such bound is known that is
nearly as small, and none is offered.

What is deleted counts from the training on, over all requests together: the model is compared with one that never saw
any of them. A new training without them starts the count again at 0, and for whoever stays it is one more release:
their own privacy is that of all trainings together (`Training.times`).

Sources: Guo et al. 2020, arXiv 1911.03030, section 3 (differential privacy implies removal); Sekhari et al. 2021, arXiv
2103.03279 (deletion capacity).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from unlearn.audit.epsilon import upper
from unlearn.audit.epsilon.bound import UpperBound
from unlearn.audit.epsilon.gdp import gdp_mu
from unlearn.errors import BudgetSpentError, ConfigurationError, InputError
from unlearn.methods.base import Advance, Guarantee, Method, MethodCard

if TYPE_CHECKING:
    import torch

    from shards.learners.private_torch import PrivateTorchLearner

ASSUMED = (
    "the sampling rate and what sums are divided by are declared constants, not computed from the number of records",
    "which records are deleted was decided without looking at the model",
)
"""What the guarantee for deletions rests on, beside what DP-SGD's accounting does."""

_LEAST_NOISE, _LARGEST_NOISE = 0.1, 1e4
_WIDER, _PRECISION = 1.5, 1e-3


@dataclass(frozen=True)
class Training:
    """A private training as an accountant sees it.

    Attributes:
        noise_multiplier: Standard deviation of the noise on the sum of a batch's gradients, in clipping norms.
        sampling_rate: Probability of a record to be in a batch, each time and independently of all others.
        steps: Noisy steps in all, those of earlier steps of its chain and of earlier trainings that were published
            included.
        records: About how many records there were, to hold delta against; None: not known.

    Raises:
        ConfigurationError: If a number cannot be.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    records: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise ConfigurationError(f"the noise multiplier must be finite and above 0, got {self.noise_multiplier!r}")
        if not 0 < self.sampling_rate <= 1 or self.steps < 1:
            raise ConfigurationError(
                "the sampling rate must be above 0 and at most 1, and steps at least 1, got "
                f"{self.sampling_rate!r} and {self.steps!r}"
            )

    def times(self, trainings: int) -> Training:
        """So many trainings of this kind on the same record, one after another or from the last one's weights."""
        return replace(self, steps=self.steps * trainings)


def training_of(learner: PrivateTorchLearner, positions: int) -> Training:
    """What a workspace's private learner does to a record.

    Args:
        learner: The learner.
        positions: Steps of the longest chain of a shard: slices a batch, times batches ingested; each trains on what
            the earlier ones were trained on. A record is in one shard only, so shards cost nothing.

    Returns:
        The training.

    Raises:
        ConfigurationError: If there is no step.
    """
    declared = learner.declared
    once = Training(declared.noise_multiplier, declared.sampling_rate, declared.steps, learner.records)
    return once.times(positions)


def training_of_opacus(optimizer: Any, loader: Any, steps: int) -> Training:
    """What a training of one's own with Opacus was.

    Opacus computes the sampling rate from the length of the data set, unless the loader was made for a declared one.

    Args:
        optimizer: The `DPOptimizer` that `PrivacyEngine.make_private` returned.
        loader: The data loader that it returned.
        steps: Batches that were trained on, empty ones included.

    Returns:
        The training.

    Raises:
        ConfigurationError: If the loader does not draw by Poisson sampling, or the optimiser is not Opacus's.
    """
    if not hasattr(optimizer, "noise_multiplier") or not hasattr(optimizer, "max_grad_norm"):
        raise ConfigurationError(
            f"a {type(optimizer).__name__} adds no noise that is known of: give the DPOptimizer that "
            "PrivacyEngine.make_private returned"
        )
    sampler = getattr(loader, "batch_sampler", None)
    rate = getattr(sampler, "sample_rate", None)
    if sampler is None or rate is None or type(sampler).__name__ != "UniformWithReplacementSampler":
        raise ConfigurationError(
            f"batches are drawn by {type(sampler).__name__}, which is not Poisson sampling: no guarantee that is known "
            "covers batches of a fixed size or of a shuffled order by this accountant. Call make_private with "
            "poisson_sampling=True and use the data loader that it returns"
        )
    return Training(float(optimizer.noise_multiplier), float(rate), steps, int(sampler.num_samples))


def deletion_guarantee(training: Training, k: int, delta: float) -> UpperBound:
    """What holds for a model that is left as it is after k records were deleted.

    Args:
        training: How it was trained.
        k: Records deleted since, in all.
        delta: That epsilon is stated for.

    Returns:
        Epsilon, with what it rests on; infinity where the accountant gives none.

    Raises:
        ConfigurationError: If delta or k cannot be, or delta is too large for so many records.
        InputError: If there were not so many records.
    """
    if training.records is not None:
        if delta * training.records >= 1:
            raise ConfigurationError(
                f"delta {delta:g} is too large for {training.records} records: what publishes one of them at random "
                f"keeps to it, and protects nobody; state one well below {1 / training.records:.2g}"
            )
        if k > training.records:
            raise InputError(f"{k} records cannot have been deleted of {training.records}")
    return _bound(training, k, delta)


@lru_cache(maxsize=256)
def _bound(training: Training, k: int, delta: float) -> UpperBound:
    found = upper.dp_sgd_pld(training.noise_multiplier, training.sampling_rate, training.steps, delta=delta, k=k)
    return replace(found, assumptions=(*found.assumptions, *ASSUMED))


def deletion_capacity(training: Training, epsilon: float, delta: float) -> int:
    """How many records may be deleted, in all, before a model that is left as it is exceeds an epsilon.

    Takes seconds: a bound for many records is a large computation. It is worked out once for equal arguments.

    Args:
        training: How it was trained.
        epsilon: That may not be exceeded.
        delta: That it is stated for.

    Returns:
        The largest k; 0 if one deletion is too many already.

    Raises:
        ConfigurationError: If epsilon or delta cannot be.
    """
    if not epsilon >= 0:
        raise ConfigurationError(f"epsilon must be at least 0, got {epsilon!r}")
    most = 10_000 if training.records is None else training.records
    return upper.deletion_capacity(lambda k: deletion_guarantee(training, k, delta).epsilon, epsilon, most)


def noise_multiplier(epsilon: float, *, delta: float, sampling_rate: float, steps: int, k: int = 1) -> float:
    """The least noise, to a thousandth of it, by which k deletions cost at most an epsilon.

    Args:
        epsilon: Above 0.
        delta: That it is stated for.
        sampling_rate: Probability of a record to be in a batch.
        steps: Noisy steps in all.
        k: Deletions that are to be possible without retraining.

    Returns:
        The noise multiplier, rounded up; at least about 0.1, below which accountants take very long.

    Raises:
        ConfigurationError: If a number cannot be, or no noise is enough.
    """
    if not epsilon > 0:
        raise ConfigurationError(f"epsilon must be above 0, got {epsilon!r}")

    def enough(noise: float) -> bool:
        return upper.dp_sgd_pld(noise, sampling_rate, steps, delta=delta, k=k).epsilon <= epsilon

    # Where the central limit theorem puts it, which proves nothing, is a good place to start looking.
    high = max(k * sampling_rate * math.sqrt(steps) / gdp_mu(epsilon, delta), _LEAST_NOISE)
    while not enough(high):
        high *= _WIDER
        if high > _LARGEST_NOISE:
            raise ConfigurationError(
                f"no noise multiplier up to {_LARGEST_NOISE:g} gives epsilon {epsilon:g} at delta {delta:g}: allow a "
                "larger epsilon, or take fewer steps"
            )
    low = high / _WIDER
    while low > _LEAST_NOISE and enough(low):
        high, low = low, low / _WIDER
    while high > low * (1 + _PRECISION):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


class Decision(StrEnum):
    """What to do about a request."""

    KEEP = "keep"
    """The model stays as it is: the guarantee covers it."""
    RETRAIN = "retrain"
    """The capacity is spent: train without everything that was deleted, or refuse."""


@dataclass(frozen=True)
class DeletionPolicy:
    """Forget without retraining within the capacity; retrain beyond it.

    Attributes:
        training: How the model was trained.
        epsilon: That is promised for all deletions since together.
        delta: That it is stated for.
    """

    training: Training
    epsilon: float
    delta: float

    @property
    def capacity(self) -> int:
        """Deletions it covers, in all."""
        return deletion_capacity(self.training, self.epsilon, self.delta)

    def decide(self, deleted: int, asked: int) -> Decision:
        """Whether a request is covered, as a whole or not at all.

        Args:
            deleted: Records deleted since the training, before this request.
            asked: Records that it names.

        Returns:
            Keep, or retrain.

        Raises:
            InputError: If a number is negative.
        """
        if deleted < 0 or asked < 0:
            raise InputError(f"numbers of records cannot be negative, got {deleted} and {asked}")
        # The bound itself: the capacity, which takes several of them, is not needed to tell.
        total = deleted + asked
        if total == 0 or deletion_guarantee(self.training, total, self.delta).epsilon <= self.epsilon:
            return Decision.KEEP
        return Decision.RETRAIN


def guarantee(bound: UpperBound) -> str:
    """What a bound promises, in words.

    Args:
        bound: From `deletion_guarantee`.

    Returns:
        Some sentences.
    """
    if math.isinf(bound.epsilon):
        return (
            f"None: for {bound.k} deleted records together, the proof bounds nothing at delta {bound.delta:g}. Retrain."
        )
    records = "the deleted record" if bound.k == 1 else f"the {bound.k} deleted records"
    return (
        f"The model still is what it was when it had seen {records}. Whatever can be read from it has a probability of "
        f"at most {math.exp(bound.epsilon):.3g} times (e to the power of {bound.epsilon:.3g}) what it would be had the "
        f"model been trained without, plus {bound.delta:g}, and the other way round. It rests on this: "
        f"{'; '.join(bound.assumptions)}."
    )


@dataclass(frozen=True, kw_only=True)
class DifferentialPrivacyConfig:
    """What is promised, and on what grounds.

    Attributes:
        training: How the model was trained; there is no default that would be true.
        epsilon: That all deletions together may reach.
        delta: That it is stated for.
        deleted: Records deleted since the training, before these.
    """

    training: Training | None = None
    epsilon: float = 1.0
    delta: float = 1e-5
    deleted: int = 0


CARD = MethodCard(
    name="differential_privacy",
    title="Differential privacy: leave the model as it is",
    guarantee=Guarantee.DP,
    needs=("forget set", "training configuration"),
    tasks=("classification", "regression"),
    citation="Abadi et al. 2016, Deep Learning with Differential Privacy, CCS, arXiv:1607.00133; Ganesh 2024, Tight "
    "Group-Level DP Guarantees for DP-SGD with Sampling via Mixture of Gaussians Mechanisms, arXiv:2401.10294",
    statement="Nothing is changed. A model that was trained with differential privacy is (epsilon, delta)-close to one "
    "trained without the deleted records, as long as they are few: the epsilon grows quickly with their number, and "
    "beyond the promised one the method refuses. It is no secret that the model has seen them.",
    uses_retain=False,
    moves_towards_retraining=False,
    leaves_model=True,
)

DEFAULTS = DifferentialPrivacyConfig()


def differential_privacy(
    model: torch.nn.Module,
    forget: Any,
    retain: Any = None,
    config: DifferentialPrivacyConfig = DEFAULTS,
    *,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Forget by leaving a privately trained model as it is, if that many deletions are covered.

    Args:
        model: Trained as the configuration says, which cannot be seen from its weights.
        forget: Examples to forget; only counted.
        retain: Examples that stay; only looked at for those that are to be forgotten.
        config: What is promised, and on what grounds.
        advance: Not called: nothing is visited.

    Returns:
        A copy.

    Raises:
        ConfigurationError: If the configuration does not say how the model was trained.
        InputError: If nothing is to be forgotten, or an example is to be forgotten and to stay.
        BudgetSpentError: If the promise does not cover so many: retrain.
    """
    from unlearn.methods.training import problem

    del advance
    if config.training is None:
        raise ConfigurationError(
            "how the model was trained must be declared: give a Training, such as training_of(learner, positions) "
            "or training_of_opacus(optimizer, loader, steps)"
        )
    asked = len(problem(CARD, model, forget, retain).forget)
    policy = DeletionPolicy(config.training, config.epsilon, config.delta)
    if policy.decide(config.deleted, asked) is Decision.RETRAIN:
        raise BudgetSpentError(
            f"{asked} more deletions after {config.deleted} exceed epsilon {config.epsilon:g} at delta "
            f"{config.delta:g}, which covers {policy.capacity} since the training: retrain without them"
        )
    return copy.deepcopy(model)


METHOD = Method(CARD, differential_privacy, DifferentialPrivacyConfig)
