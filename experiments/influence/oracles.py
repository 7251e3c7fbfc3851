"""Scores and curvature of other people's libraries, where they are installed, on softmax regression of 4 x 4 digits."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from experiments.benchmark import Figure, Say
from unlearn.methods.base import Examples
from unlearn.methods.influence import (
    EKFAC,
    L2,
    Cholesky,
    Curvature,
    EmpiricalFisher,
    GaussNewton,
    Hessian,
    ModuleObjective,
    Solver,
    influence,
    minimise,
    of_module,
)
from unlearn.methods.influence.problem import problem_of

DECAY = 1e-2
"""Penalty for each example; also what the libraries are told to damp with."""

PACKAGES = {"dattri": "dattri", "kronfluence": "kronfluence", "curvlinops": "curvlinops-for-pytorch"}
"""Distribution of each library."""


@dataclass(frozen=True, eq=False)
class Softmax:
    """A trained model.

    Attributes:
        model: One linear layer, float64.
        objective: Its loss and penalty.
        w: Its optimum.
        train: 300 digits.
        test: 5.
    """

    model: nn.Module
    objective: ModuleObjective
    w: torch.Tensor
    train: Examples
    test: Examples


def softmax() -> Softmax:
    """Train it.

    Returns:
        The model.
    """
    images, labels = load_digits(return_X_y=True)
    pooled = functional.avg_pool2d(torch.from_numpy(images / 16).reshape(-1, 1, 8, 8), 2).flatten(1)
    everything = Examples(pooled, torch.from_numpy(labels))
    train, test = everything.take(slice(300)), everything.take(slice(300, 305))
    problem = problem_of(nn.Linear(16, 10).double(), train.take(slice(0)), train, L2(per_example=DECAY))
    model = problem.model_of(minimise(problem.objective, problem.retain, problem.w).w)
    module, w = of_module(model)
    return Softmax(model, ModuleObjective(module=module, l2=L2(per_example=DECAY)), w, train, test)


def our_scores(trained: Softmax, curvature: type[Curvature] = Hessian, solver: Solver | None = None) -> torch.Tensor:
    """Of the records' losses on the test losses, in the sum convention.

    Args:
        trained: The model.
        curvature: Which matrix.
        solver: Which solver; None: dense.

    Returns:
        `[300, 5]`; without the records' share of the penalty, which the libraries leave out.
    """
    plain = ModuleObjective(module=trained.objective.module)
    inverse = (solver or Cholesky()).fit(curvature(trained.objective, trained.w, trained.train))
    return influence(plain, trained.w, trained.train, lambda v: plain.losses(v, trained.test), inverse).values


def dattri_scores(trained: Softmax, kind: str) -> torch.Tensor:
    """Theirs, by the mean loss, divided by n.

    Args:
        trained: The model.
        kind: "explicit" or "conjugate gradient".

    Returns:
        `[300, 5]`.
    """
    from dattri.algorithm.influence_function import IFAttributorCG, IFAttributorExplicit
    from dattri.task import AttributionTask

    def loss(parameters: dict[str, torch.Tensor], data: Any) -> torch.Tensor:
        inputs, targets = data
        return functional.cross_entropy(functional_call(trained.model, parameters, (inputs,)), targets)

    task = AttributionTask(loss_func=loss, model=trained.model, checkpoints=trained.model.state_dict())
    if kind == "explicit":
        attributor = IFAttributorExplicit(task, regularization=DECAY)
    else:
        attributor = IFAttributorCG(task, max_iter=300, tol=1e-12, regularization=DECAY)
    whole = DataLoader(TensorDataset(*trained.train), batch_size=len(trained.train))
    attributor.cache(whole)
    scores = attributor.attribute(whole, DataLoader(TensorDataset(*trained.test), batch_size=len(trained.test)))
    return scores.double() / len(trained.train)


def kronfluence_scores(trained: Softmax, strategy: str, folder: Path) -> torch.Tensor:
    """Theirs; EK-FAC by the mean loss, divided by n.

    Args:
        trained: The model.
        strategy: "identity" (products of gradients) or "ekfac".
        folder: Where they write.

    Returns:
        `[300, 5]`.
    """
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Digits(Task):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> torch.Tensor:
            inputs, targets = batch
            logits = model(inputs)
            if sample:
                targets = torch.multinomial(torch.softmax(logits.detach(), 1), 1)[:, 0]
            return functional.cross_entropy(logits, targets, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> torch.Tensor:
            return self.compute_train_loss(batch, model)

    task = Digits()
    # A module alone would become its own child.
    model = prepare_model(nn.Sequential(deepcopy(trained.model)), task)
    train, test = TensorDataset(*trained.train), TensorDataset(*trained.test)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        analyzer = Analyzer(strategy, model, task, cpu=True, output_dir=str(folder), disable_tqdm=True)
        factors = FactorArguments(strategy=strategy)
        analyzer.fit_all_factors("factors", train, per_device_batch_size=100, factor_args=factors)
        damped = ScoreArguments(damping_factor=DECAY)
        analyzer.compute_pairwise_scores("scores", "factors", test, train, 5, score_args=damped)
        scores = analyzer.load_pairwise_scores("scores")["all_modules"].T.double()
    return scores / len(train) if strategy == "ekfac" else scores


def curvlinops_matrix(trained: Softmax, kind: type[Curvature]) -> torch.Tensor:
    """Theirs, of the sum of the losses, without a penalty.

    Args:
        trained: The model.
        kind: Which of ours.

    Returns:
        `[170, 170]`.
    """
    import curvlinops

    operators = {
        Hessian: curvlinops.HessianLinearOperator,
        GaussNewton: curvlinops.GGNLinearOperator,
        EmpiricalFisher: curvlinops.EFLinearOperator,
    }
    module, loss = trained.objective.module, nn.CrossEntropyLoss(reduction="sum")
    operator = operators[kind](module, loss, list(module.parameters()), [tuple(trained.train)])
    matrix: torch.Tensor = operator @ torch.eye(len(trained.w), dtype=torch.float64)
    return matrix


def figures(folder: Path, say: Say) -> Iterator[Figure]:
    """How far ours and theirs are apart.

    Args:
        folder: An empty folder.
        say: Told which libraries are missing.

    Yields:
        Figures, of the libraries that are there.
    """
    trained, present = softmax(), versions()
    for missing in PACKAGES.keys() - present.keys():
        say(f"{missing} is not installed: left out")
    exact = our_scores(trained)
    if "dattri" in present:
        for kind in ("explicit", "conjugate gradient"):
            off = _off(dattri_scores(trained, kind), exact)
            yield Figure(
                f"oracle.dattri.{kind.split()[0]}", f"dattri, {kind}: relative difference", off, "", at_most=1e-6
            )
    if "kronfluence" in present:
        products = (
            trained.objective.gradients(trained.w, trained.train)
            @ trained.objective.gradients(trained.w, trained.test).T
        )
        off = _off(kronfluence_scores(trained, "identity", folder / "identity"), products)
        yield Figure("oracle.kronfluence.products", "kronfluence: products of gradients", off, "", at_most=1e-5)
        theirs = kronfluence_scores(trained, "ekfac", folder / "ekfac")
        ours = our_scores(trained, GaussNewton, EKFAC())
        yield Figure("oracle.kronfluence.ekfac", "kronfluence: EK-FAC of both", _r(theirs, ours), "r", at_least=0.99)
        yield Figure("oracle.kronfluence.exact", "kronfluence: EK-FAC, against exact scores", _r(theirs, exact), "r")
    if "curvlinops" in present:
        for kind in (Hessian, GaussNewton, EmpiricalFisher):
            plain = ModuleObjective(module=trained.objective.module)
            off = _off(curvlinops_matrix(trained, kind), kind(plain, trained.w, trained.train).dense())
            yield Figure(f"oracle.curvlinops.{kind.__name__}", f"curvlinops: {kind.__name__}", off, "", at_most=1e-12)


def versions() -> dict[str, str]:
    """Of the libraries that are installed.

    Returns:
        Version by name.
    """
    found = {}
    for name, distribution in PACKAGES.items():
        try:
            found[name] = version(distribution)
        except PackageNotFoundError:
            continue
    return found


def _off(theirs: torch.Tensor, ours: torch.Tensor) -> float:
    return float((theirs - ours).norm() / ours.norm())


def _r(theirs: torch.Tensor, ours: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([theirs.flatten(), ours.flatten()]))[0, 1])
