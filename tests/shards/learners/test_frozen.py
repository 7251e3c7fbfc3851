"""Outputs of a module that never changes: the module's own, the same for a record alone and among others."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shards.errors import ConfigurationError
from shards.learners.feature_maps import feature_map
from shards.learners.frozen import Frozen
from shards.learners.ridge import RidgeLearner
from tests.shards.learners.exact_cases import CLASSES, records, same, some, step
from tests.shards.learners.user_modules import embedding

WIDE = Frozen("user_modules:embedding", 70, (12, 12), {"inputs": 144, "outputs": 70}, seed=3)
SMALL = Frozen("user_modules:embedding", 5, (4,), {"inputs": 4, "outputs": 5})


def test_features_are_the_modules_outputs() -> None:
    X = np.random.default_rng(0).normal(size=(20, 144))
    torch.manual_seed(3)
    module = embedding(144, 70).eval()
    with torch.no_grad():
        expected = module(torch.tensor(X, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(WIDE.values(X), expected, rtol=0, atol=1e-6)


def test_a_record_has_the_same_features_whatever_stands_beside_it() -> None:
    X = np.random.default_rng(1).normal(size=(65, 144))
    together = WIDE.values(X)
    alone = np.concatenate([WIDE.values(X[row : row + 1]) for row in range(len(X))])
    assert together.tobytes() == alone.tobytes()
    order = np.random.default_rng(2).permutation(len(X))
    assert WIDE.values(X[order]).tobytes() == together[order].tobytes()
    assert WIDE.values(X[:0]).shape == (0, 70)


def test_what_the_user_draws_changes_nothing_and_is_not_changed() -> None:
    X = np.random.default_rng(1).normal(size=(3, 4))
    expected = SMALL.values(X)
    torch.manual_seed(5)
    random.seed(5)
    drawn = (torch.rand(1), random.random())
    torch.manual_seed(5)
    random.seed(5)
    from shards.learners import frozen

    frozen._made.cache_clear()
    assert SMALL.values(X).tobytes() == expected.tobytes()
    assert (torch.rand(1), random.random()) == drawn


def test_sums_over_it_add_up() -> None:
    learner, data = RidgeLearner(1.0, SMALL), records(40)
    first = step(learner, None, some(data, slice(0, 17)))
    assert same(step(learner, first, data, position=1), step(learner, None, data))
    assert learner.libraries == ("numpy", "scipy", "torch")
    assert learner.code() == ("user_modules:embedding",)
    assert RidgeLearner.libraries == RidgeLearner().libraries == ("numpy", "scipy")


def test_weights_are_those_of_the_file_that_was_declared(tmp_path: Path) -> None:
    torch.manual_seed(11)
    module, path, X = embedding(4, 5).eval(), tmp_path / "w.safetensors", np.eye(4)
    save_file(module.state_dict(), path)
    of = Frozen(SMALL.module, 5, (4,), SMALL.arguments, weights=str(path))
    with torch.no_grad():
        expected = module(torch.eye(4)).numpy()
    np.testing.assert_allclose(of.values(X), expected, rtol=0, atol=1e-6)
    described = json.loads(json.dumps(of.to_json()))
    assert len(described["weights_digest"]) == 64
    assert feature_map(described) == of

    from shards.learners import frozen

    frozen._made.cache_clear()
    torch.manual_seed(12)
    save_file(embedding(4, 5).state_dict(), path)
    assert feature_map(described) == of  # what was declared stays declared
    with pytest.raises(ConfigurationError, match="is not the file that was declared"):
        of.values(X)
    with pytest.raises(ConfigurationError, match="does not hold the state of user_modules:embedding"):
        Frozen(SMALL.module, 5, (4,), {**SMALL.arguments, "layers": 2}, weights=str(path)).values(X)
    path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        of.values(X)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": 6}, "gives 5 numbers for a record, and 6 features were declared"),
        ({"module": "user_modules:no_such_function"}, "no_such_function"),
        ({"module": "torch:load"}, "torch:load"),
        ({"module": 3}, "module must be a reference"),
        ({"shape": [4.0]}, "shape must be whole numbers"),
        ({"shape": []}, "shape must be whole numbers"),
        ({"arguments": [1]}, "arguments must be a mapping"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"limit": 2.0**-9}, "there must be 1 to 1,048,576 counts.*give a larger limit"),
        ({"limit": 0.01}, "a feature is .* was declared"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        feature_map({**SMALL.to_json(), **options}).counts(np.ones((2, 4)))


def test_records_of_another_shape_are_refused_before_anything_is_trained() -> None:
    with pytest.raises(ConfigurationError, match=r"to take records of shape \[12, 12\], and a record has 4 numbers"):
        RidgeLearner(1.0, WIDE).check(CLASSES)
    RidgeLearner(1.0, SMALL).check(CLASSES)
    gradients = {"map": "gradients", "height": 3, "columns": 3, "size": 2}
    with pytest.raises(ConfigurationError, match="3 rows and 3 columns, and a record has 4 numbers"):
        RidgeLearner(1.0, gradients).check(CLASSES)
