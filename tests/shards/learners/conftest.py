"""Puts this directory on Python's path, so that tests can refer to `user_modules` as a user would."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

# Not in a fixture: the test modules import it too, which happens at collection.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A user's package on the path, which imports dangerous things as packages do."""
    (tmp_path / "userpkg").mkdir()
    (tmp_path / "userpkg" / "__init__.py").write_text("")
    (tmp_path / "userpkg" / "models.py").write_text(
        "import os\n"
        "from os import system\n"
        "import functools\n"
        "import numpy as np\n"
        "from sklearn.base import BaseEstimator, ClassifierMixin\n"
        "def double(X):\n    return X * 2\n"
        "class Notes:\n    def __init__(self):\n        self.text = 'seen'\n"
        "class Mean(ClassifierMixin, BaseEstimator):\n"
        "    def __init__(self, call=None):\n        self.call = call\n"
        "    def fit(self, X, y):\n"
        "        self.classes_ = np.unique(y)\n"
        "        self.means_ = np.array([X[y == c].mean(0) for c in self.classes_])\n"
        "        self.notes_ = Notes()\n"
        "        return self\n"
        "    def predict(self, X):\n"
        "        return self.classes_[((X[:, None] - self.means_) ** 2).sum(-1).argmin(1)]\n"
        "class Leaky(Mean):\n"
        "    def fit(self, X, y):\n"
        "        self.partial_ = functools.partial(double)\n"
        "        return super().fit(X, y)\n"
        "class Threads(Mean):\n"
        "    def __init__(self, n_jobs=None):\n        self.n_jobs = n_jobs\n"
        "class Changing(Mean):\n"
        "    def __init__(self, call=None):\n        self.call = [call]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module("userpkg.models")
    for name in [name for name in sys.modules if name.partition(".")[0] == "userpkg"]:
        del sys.modules[name]
