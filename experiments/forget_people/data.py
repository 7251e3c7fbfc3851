"""The people: whose records, what is predicted from them, and how well a model does it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.forget_exact.run import mnist
from experiments.forget_people import patients

DATA = Path(os.environ.get("UNLEARN_DATA", Path(__file__).parents[3] / "shared" / "data"))


@dataclass(frozen=True)
class People:
    """Records of people, and records of others to test with.

    Attributes:
        x: `[n, width]` float32.
        y: `[n]` int64, classes from 0.
        subject: `[n]` text: whose each record is.
        test_x: `[m, width]` float32.
        test_y: `[m]` int64.
    """

    x: np.ndarray
    y: np.ndarray
    subject: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray

    @property
    def classes(self) -> list[int]:
        """All of them."""
        return list(range(int(self.y.max()) + 1))

    def everybody(self) -> list[str]:
        """Each person once, in the order of their names."""
        return sorted(set(self.subject.tolist()))


def writers() -> People:
    """MNIST with its writers: 60,000 digits of 539 people, tested with 10,000 of others; pixels from 0 to 1."""
    images = mnist()
    x, test_x = ((part / 255).astype(np.float32) for part in (images.x, images.test_x))
    return People(x, images.y, np.array([f"writer-{name}" for name in images.writer.tolist()]), test_x, images.test_y)


def diabetes() -> People:
    """Diabetes 130-US hospitals: 101,766 visits of 71,518 patients, a fifth of the patients to test with."""
    rows = list(patients.read(DATA / "diabetes130" / "dataset_diabetes.zip"))
    x = patients.matrix(rows)
    y = np.array([patients.is_readmitted(row) for row in rows], dtype=np.int64)
    subject = np.array([f"patient-{row['patient_nbr']}" for row in rows])
    tested = np.array([patients.is_tested(row["patient_nbr"]) for row in rows])
    return People(x[~tested], y[~tested], subject[~tested], x[tested], y[tested])


def scores(said: np.ndarray, truth: np.ndarray, threshold: float | None) -> Mapping[str, float]:
    """How well a model does.

    Args:
        said: `[m, classes]` probabilities.
        truth: `[m]`.
        threshold: Of two classes: from what probability on the second one counts as said, a public constant; None: the
            most probable class counts.

    Returns:
        `"accuracy"`, of the most probable class; with a threshold `"auc"`, and `"balanced"`, the mean over both
        classes of the share that is found, besides.
    """
    found = {"accuracy": float((said.argmax(axis=1) == truth).mean())}
    if threshold is not None:
        from sklearn.metrics import roc_auc_score

        found["auc"] = float(roc_auc_score(truth, said[:, 1]))
        alarm = said[:, 1] >= threshold
        found["balanced"] = float((alarm[truth == 1].mean() + (~alarm[truth == 0]).mean()) / 2)
    return found
