from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn_cases import CLASSES, context, data

from shards.errors import DamageError
from shards.learners.sklearn import SklearnLearner


def rewritten(state: Any, change: Any) -> dict[str, np.ndarray]:
    """The state with its skops schema changed by a function of the JSON value."""
    source = zipfile.ZipFile(io.BytesIO(state["skops"].tobytes()))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as out:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            out.writestr(name, content)
    return {**state, "skops": np.frombuffer(target.getvalue(), np.uint8)}


def call_on_load(module: str, name: str, argument: str) -> Any:
    """Have a function called with a string when the state is loaded."""
    text = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": json.dumps(argument)}
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [text]}

    def change(schema: Any) -> None:
        schema["content"]["content"]["bad"] = {
            "__class__": name,
            "__module__": module,
            "__loader__": "ConstructorFromReduceNode",
            "content": arguments,
        }

    return change


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *(("os", "system"), ("builtins", "eval"), ("numpy.testing", "runstring"), ("numpy", "memmap")),
        *(("userpkg.models", "system"), ("userpkg.models", "double"), ("sklearn.datasets", "load_files")),
        *(("numpy", "fromfile"), ("sklearn.utils._joblib", "os"), ("userpkg.__main__", "x"), ("unknown", "f")),
    ],
)
def test_states_cannot_call_anything(package: Any, tmp_path: Path, module: str, name: str) -> None:
    learner = SklearnLearner(package.Mean(), trusted=("userpkg",))
    state = learner.train_step(None, data(), context())
    bad = rewritten(state, call_on_load(module, name, f"touch {tmp_path / 'called'}"))
    for use in (learner.content_digest, lambda s: learner.predictor(s, CLASSES)):
        with pytest.raises(DamageError, match=rf"{module}\.{name}"):
            use(bad)
    assert not (tmp_path / "called").exists()


def test_a_state_of_something_else_is_refused() -> None:
    state = SklearnLearner(GaussianNB()).train_step(None, data(), context())
    other = SklearnLearner(SGDClassifier())
    for use in (other.content_digest, lambda s: other.train_step(s, data(), context())):
        with pytest.raises(DamageError, match="GaussianNB, not a SGDClassifier"):
            use(state)
    with pytest.raises(DamageError, match="another learner"):
        other.content_digest({"weights": np.zeros(3)})


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
def test_damaged_bytes_are_refused() -> None:
    learner = SklearnLearner(GaussianNB())
    state = dict(learner.train_step(None, data(), context()))
    for bad in (state["skops"][:100], state["skops"][:0], np.zeros(9, np.uint8)):
        with pytest.raises(DamageError):
            learner.content_digest({**state, "skops": bad})
    with pytest.raises(DamageError):
        learner.content_digest(rewritten(state, lambda schema: schema.pop("__loader__")))
    emptied = rewritten(state, lambda schema: schema["content"]["content"].clear())
    assert learner.content_digest(emptied) != state["content"].tobytes().hex()


def test_the_digest_is_computed_not_read() -> None:
    learner = SklearnLearner(GaussianNB())
    state = learner.train_step(None, data(), context())
    lying = {**state, "content": np.zeros(32, np.uint8)}
    assert learner.content_digest(lying) == state["content"].tobytes().hex()
    changed = {**state, "skops": learner.train_step(None, data(seed=1), context())["skops"]}
    assert learner.content_digest(changed) != state["content"].tobytes().hex()
