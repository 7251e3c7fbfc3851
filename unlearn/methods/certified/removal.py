"""`CertifiedRemoval`: fit, forget, predict, with a budget that is kept and a certificate that claims what is proven."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from shards.noise import system_normal
from unlearn.errors import (
    AlreadyForgottenError,
    BudgetSpentError,
    ConfigurationError,
    InputError,
    NotServingError,
    UnknownIdError,
    some,
)
from unlearn.methods.certified.certificate import Budget, Certificate
from unlearn.methods.certified.ledger import FileLedger, Ledger, MemoryLedger, check_empty
from unlearn.methods.certified.mechanism import Mechanism, Move, Noise
from unlearn.methods.certified.output_perturbation import OutputPerturbation
from unlearn.methods.certified.problem import Problem, logistic, squared
from unlearn.methods.influence.linear_models import ScalarModel, SquaredLoss

LOSSES: Mapping[str, Callable[[float], ScalarModel]] = {"logistic": logistic, "squared": squared}


class WhenSpent(StrEnum):
    """What a request meets that the budget does not suffice for."""

    REFUSE = "refuse"
    RETRAIN = "retrain"


class CertifiedRemoval:
    """A linear model, or linear heads on public features, that forgets with a certificate.

    Args:
        mechanism: How noise is added and charges are made; by default noise on the output, which is proven.
        loss: "logistic" (two classes: one head; more: one-vs-rest) or "squared" (targets `[n]` or `[n, heads]`).
        regularisation: λ in Σ l + (λ n/2)|w|², above 0.
        epsilon: The promise: no model is released that would break it.
        delta: Its delta.
        when_spent: "refuse": raises `BudgetSpentError`, nothing changes; "retrain": trains from nothing.
        features: A public function of inputs, `PublicBackbone` say: it must never have seen the records.
        path: Folder of the ledger; None: in memory, and gone with the process.
        noise: Where noise comes from; the operating system, unless in a test.

    Raises:
        ConfigurationError: If an argument cannot be.

    Example:
        >>> X = np.array([[0.6, 0.0], [0.5, 0.1], [-0.4, 0.2], [-0.7, 0.1]])
        >>> model = CertifiedRemoval(regularisation=0.1).fit(X, [1, 1, 0, 0])
        >>> model.forget([0]).predict(X[1:]).tolist()
        [1, 0, 0]
        >>> model.certificate.proven
        True
    """

    def __init__(
        self,
        mechanism: Mechanism | None = None,
        *,
        loss: str = "logistic",
        regularisation: float = 1e-3,
        epsilon: float = 1.0,
        delta: float = 1e-4,
        when_spent: str = "refuse",
        features: Callable[[Any], np.ndarray] | None = None,
        path: str | Path | None = None,
        noise: Noise = system_normal,
    ) -> None:
        if loss not in LOSSES:
            raise ConfigurationError(
                f"loss must be one of {sorted(LOSSES)}, got {loss!r}: certificates need a convex problem, and are "
                "never issued for others"
            )
        if not epsilon > 0 or not 0 < delta < 1:
            raise ConfigurationError(f"epsilon must be above 0 and delta in (0, 1), got {epsilon!r} and {delta!r}")
        if when_spent not in set(WhenSpent):
            raise ConfigurationError(f"when_spent must be 'refuse' or 'retrain', got {when_spent!r}")
        _check_features(features)
        self.mechanism = mechanism or OutputPerturbation()
        self.loss = LOSSES[loss](regularisation)
        self.epsilon, self.delta, self.when_spent = epsilon, delta, WhenSpent(when_spent)
        self.features, self.path = features, None if path is None else Path(path)
        self._noise = noise
        self._ledger: Ledger | None = None
        self._tokens: dict[str, None] = {}
        self._classes_kept: list[Any] | None = None
        self.coef_: np.ndarray = np.empty((0, 0))

    # Fitting and opening

    def fit(self, X: Any, y: Any, ids: Sequence[Any] | None = None) -> Self:
        """Train, and open the ledger.

        Args:
            X: `[n, d]` numbers, or whatever `features` takes.
            y: `[n]` labels; for the squared loss `[n]` or `[n, heads]` numbers.
            ids: n different strings or integers; None: row numbers.

        Returns:
            Itself, with the classes of y for good: their heads stay when no record of theirs is left.

        Raises:
            InputError: If the data cannot be, or it was fitted before.
        """
        if self._ledger is not None:
            raise InputError("this model was fitted before, and its budget with it: make a new CertifiedRemoval")
        if self.path is not None:
            check_empty(self.path)
        problem = self._read(X, y, None)
        held_ids = _ids(ids, len(problem))
        self.mechanism.check(problem)
        # Training may fail, and must not leave a ledger then: it comes second.
        move = self.mechanism.train(problem, self._noise)
        self._admit(move)
        ledger: Ledger = MemoryLedger() if self.path is None else FileLedger.create(self.path)
        self._ledger = ledger
        with ledger.alone():
            self._release(ledger, "fit", move, problem, held_ids, [])
        return self

    def open(self, X: Any, y: Any, ids: Sequence[Any] | None = None) -> Self:
        """Go on where an earlier process ended, with all its charges.

        A request that was charged, and of which it is not known whether its model was released, is completed here, by
        training from nothing.

        Args:
            X: The same data; rows that were forgotten may be missing where ids are given, and are left out else.
            y: Its targets.
            ids: As in `fit`.

        Returns:
            Itself.

        Raises:
            ConfigurationError: If no path was given.
            InputError: If the records are not those that were left.
            BudgetSpentError: If a request cannot be completed within the promise.
        """
        if self.path is None:
            raise ConfigurationError("give CertifiedRemoval the path that it was fitted with")
        ledger = FileLedger.open(self.path)
        last = next((entry for entry in reversed(ledger.entries) if entry["kind"] == "charged"), None)
        if last is None:
            raise InputError(f"{self.path} holds no charge: training was interrupted before anything was released")
        self._check_same(last)
        all_ids = _ids(ids, len(X))
        gone = {token for entry in ledger.entries for token in entry.get("removed", ())}
        rows = [row for row, name in enumerate(all_ids) if ledger.token(name) not in gone]
        left = [all_ids[row] for row in rows]
        if ledger.fingerprint(ledger.token(name) for name in left) != last["fingerprint"]:
            raise InputError(
                f"these are not the {last['n']} records that the ledger in {self.path} knows to be left: give the data "
                "of fit, with the same ids"
            )
        self._classes_kept = last["classes"]
        self._problem = self._read(X, y, last["classes"]).take(rows)
        self._ids, self._ledger = left, ledger
        self._tokens = dict.fromkeys(gone)
        if ledger.entries[-1]["kind"] == "charged":
            with ledger.alone():
                self._complete(ledger, last)
        else:
            arrays = ledger.kept()
            self._held = Move(torch.from_numpy(arrays["held"]), last["account"])
            self.coef_ = arrays["published"].T
        return self

    def _complete(self, ledger: Ledger, last: Mapping[str, Any]) -> None:
        shape = torch.zeros(self._problem.shape, dtype=torch.float64)
        move = self.mechanism.retrain(self._problem, Move(shape, last["account"]), self._noise)
        self._admit(move)
        self._release(ledger, "complete", move, self._problem, self._ids, [])

    # Forgetting

    def forget(self, records: Any) -> Self:
        """Forget records together, in one charge.

        Args:
            records: Their ids; row numbers of `fit`, where it was given none.

        Returns:
            Itself, with a new `coef_`.

        Raises:
            NotServingError: If it is not fitted.
            InputError: If none are named, one twice, or all of them.
            UnknownIdError: If one is not in the data.
            AlreadyForgottenError: If one was forgotten before.
            BudgetSpentError: If the budget does not suffice and `when_spent` is "refuse"; nothing has changed then.
        """
        ledger = self._fitted()
        gone = self._rows(ledger, records)
        chosen = set(gone)
        left = [row for row in range(len(self._ids)) if row not in chosen]
        removed, after = self._problem.take(gone), self._problem.take(left)
        left_ids = [self._ids[row] for row in left]
        tokens = [ledger.token(self._ids[row]) for row in gone]
        with ledger.alone():
            move, action = self.mechanism.remove(self._problem, removed, after, self._held, self._noise), "update"
            if not self._within(move):
                if self.when_spent is WhenSpent.REFUSE:
                    ledger.append({"kind": "refused", "records": len(gone)})
                    self._refuse(move)
                move, action = self.mechanism.retrain(after, self._held, self._noise), "retrain"
                self._admit(move)
            self._release(ledger, action, move, after, left_ids, tokens)
        return self

    def _rows(self, ledger: Ledger, records: Any) -> list[int]:
        listed = [records] if isinstance(records, str | int | np.generic) else records
        named = [name.item() if isinstance(name, np.generic) else name for name in listed]
        where = {name: row for row, name in enumerate(self._ids)}
        forgotten = [name for name in named if ledger.token(name) in self._tokens]
        if forgotten:
            raise AlreadyForgottenError(f"forgotten before: {some([str(name) for name in forgotten])}")
        unknown = [name for name in named if name not in where]
        if unknown:
            raise UnknownIdError(
                f"not among the {len(self._ids)} records of this model: {some([str(name) for name in unknown])}"
            )
        if len(set(named)) != len(named):
            raise InputError("a record is named twice in one request: name each once")
        if not named:
            raise InputError("no records are named: there is nothing to forget")
        if len(named) == len(self._ids):
            raise InputError("all records are named: delete the model instead, since nothing can be trained on none")
        return [where[name] for name in named]

    # The budget

    def _within(self, move: Move) -> bool:
        return self.mechanism.epsilon(move.account, self.delta) <= self.epsilon

    def _admit(self, move: Move) -> None:
        if not self._within(move):
            self._refuse(move)

    def _refuse(self, move: Move) -> None:
        needed = self.mechanism.epsilon(move.account, self.delta)
        raise BudgetSpentError(
            f"this would need epsilon {needed:.4g} at delta {self.delta:g}, and {self.epsilon:g} is promised: nothing "
            "was changed. Train anew (when_spent='retrain' does so by itself), with more noise or more regularisation"
        )

    def _release(
        self, ledger: Ledger, action: str, move: Move, problem: Problem, ids: list[Any], tokens: list[str]
    ) -> None:
        published = self.mechanism.publish(move.weights, self._noise)
        ledger.append(
            {
                "kind": "charged",
                "action": action,
                "account": dict(move.account),
                "removed": tokens,
                "n": len(problem),
                "fingerprint": ledger.fingerprint(ledger.token(name) for name in ids),
                "classes": None if self._classes_kept is None else list(self._classes_kept),
                "epsilon": self.epsilon,
                "delta": self.delta,
                "mechanism": repr(self.mechanism),
                "loss": repr(self.loss),
            }
        )
        ledger.keep({"held": move.weights.numpy(), "published": published.numpy()})
        ledger.append({"kind": "released"})
        self._problem, self._ids, self._held = problem, ids, move
        self._tokens.update(dict.fromkeys(tokens))
        self.coef_ = published.numpy().T

    def _check_same(self, last: Mapping[str, Any]) -> None:
        for name, given in (
            ("epsilon", self.epsilon),
            ("delta", self.delta),
            ("mechanism", repr(self.mechanism)),
            ("loss", repr(self.loss)),
        ):
            if last[name] != given:
                raise ConfigurationError(
                    f"{self.path} was fitted with {name} {last[name]}, not {given}: a promise is not changed later"
                )

    @property
    def budget(self) -> Budget:
        """What is promised, and what is spent."""
        ledger = self._fitted()
        charged = [entry for entry in ledger.entries if entry["kind"] == "charged"]
        return Budget(
            epsilon=self.epsilon,
            delta=self.delta,
            spent=self.mechanism.epsilon(self._held.account, self.delta),
            account=self._held.account,
            removed=sum(len(entry["removed"]) for entry in charged),
            releases=sum(entry["action"] != "fit" for entry in charged),
            retrainings=sum(entry["action"] in {"retrain", "complete"} for entry in charged),
        )

    @property
    def certificate(self) -> Certificate:
        """What holds for the model that is published now."""
        budget = self.budget
        return Certificate(
            mechanism=self.mechanism.name,
            epsilon=self.epsilon,
            delta=self.delta,
            spent=budget.spent,
            claim=self.mechanism.claim,
            removed=budget.removed,
            regularisation=self._problem.regularisation,
            n=len(self._problem),
            account=budget.account,
        )

    # Predicting

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores by the published weights.

        Args:
            X: As in `fit`.

        Returns:
            `[n]` with one head, else `[n, heads]`.
        """
        self._fitted()
        scores: np.ndarray = self._inputs(X).numpy() @ self.coef_.T
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Labels, or values with the squared loss.

        Args:
            X: As in `fit`.

        Returns:
            `[n]`, or `[n, heads]` values.
        """
        scores = self.decision_function(X)
        if self._classes_kept is None:
            return scores
        best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
        labels: np.ndarray = self.classes_[best]
        return labels

    def score(self, X: Any, y: Any) -> float:
        """Share of right labels, or R² with the squared loss.

        Args:
            X: As in `fit`.
            y: Targets.

        Returns:
            The score.
        """
        predicted, given = self.predict(X), np.asarray(y)
        if self._classes_kept is not None:
            return float((predicted == given).mean())
        return float(1 - ((predicted - given) ** 2).sum() / ((given - given.mean(0)) ** 2).sum())

    @property
    def classes_(self) -> np.ndarray:
        """Labels in the order of the heads; with two classes the one head is the second's."""
        return np.asarray(self._classes_kept)

    def _fitted(self) -> Ledger:
        if self._ledger is None:
            raise NotServingError("this model is not fitted: call fit, or open with the path of an earlier one")
        return self._ledger

    # Reading

    def _inputs(self, X: Any) -> torch.Tensor:
        values = np.asarray(self.features(X) if self.features else X)
        if values.ndim != 2 or values.dtype.kind not in "biuf":
            raise InputError(f"X must be numbers [n, d], got {values.dtype} {list(values.shape)}")
        if not np.isfinite(values).all():
            raise InputError("X must be finite: remove or impute what is missing first")
        return torch.from_numpy(np.array(values, dtype=np.float64))

    def _read(self, X: Any, y: Any, classes: Sequence[Any] | None) -> Problem:
        inputs, given = self._inputs(X), np.asarray(y)
        if len(given) != len(inputs) or not len(given):
            raise InputError(f"X has {len(inputs)} rows and y {len(given)}: give as many of both, and at least one")
        if isinstance(self.loss, SquaredLoss):
            self._classes_kept = None
            values = np.array(given, dtype=np.float64).reshape(len(given), -1)
            if not np.isfinite(values).all():
                raise InputError("y must be finite")
            return Problem(inputs, torch.from_numpy(values), self.loss)
        found = np.unique(given) if classes is None else np.asarray(classes)
        if given.ndim != 1 or len(found) < 2:
            raise InputError(
                f"y must be [n] labels of two classes or more, got shape {given.shape}, {len(found)} classes"
            )
        self._classes_kept = found.tolist()
        heads = [found[1]] if len(found) == 2 else list(found)
        targets = np.stack([given == head for head in heads], 1).astype(np.int64)
        return Problem(inputs, torch.from_numpy(targets), self.loss)


def _ids(ids: Sequence[Any] | None, n: int) -> list[Any]:
    if ids is None:
        return list(range(n))
    names: list[Any] = [name.item() if isinstance(name, np.generic) else name for name in ids]
    if len(names) != n:
        raise InputError(f"{n} rows, but {len(names)} ids")
    odd = next((name for name in names if not isinstance(name, str | int)), None)
    if odd is not None:
        raise InputError(f"ids must be strings or integers, got {type(odd).__name__}")
    if len(set(names)) != n:
        raise InputError("ids must differ: several records of one person need ids of their own, forgotten together")
    return names


def _check_features(features: Any) -> None:
    if isinstance(features, torch.nn.Module):
        raise ConfigurationError(
            "features must be a public function: wrap a module in PublicBackbone, which freezes it and says that it "
            "never saw the records"
        )
