"""Examples as users have them, read into one form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from unlearn.errors import InputError
from unlearn.methods import METHODS, FineTuneConfig
from unlearn.methods.base import Examples, examples

INPUTS, TARGETS = torch.arange(12.0).reshape(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    "given",
    [
        Examples(INPUTS, TARGETS),
        (INPUTS, TARGETS),
        [INPUTS.numpy(), TARGETS.numpy().astype(np.int16)],
        (INPUTS.tolist(), TARGETS.tolist()),
        TensorDataset(INPUTS, TARGETS),
    ],
    ids=["examples", "tensors", "arrays", "lists", "dataset"],
)
def test_all_forms_are_the_same(given: Any) -> None:
    inputs, targets = examples(given, "forget")
    assert torch.equal(inputs.float(), INPUTS)
    assert torch.equal(targets, TARGETS)
    assert targets.dtype == torch.int64


def test_the_task_is_told_by_the_targets() -> None:
    assert examples((INPUTS, TARGETS), "forget").task == "classification"
    assert examples((INPUTS, TARGETS.float()), "forget").task == "regression"


def test_subsets_of_one_dataset_know_what_they_share() -> None:
    whole = TensorDataset(INPUTS, TARGETS)
    one = examples(Subset(whole, [0, 2, 4]), "forget")
    other = examples(Subset(Subset(whole, [5, 4, 3]), [1, 0]), "retain")
    assert one.ids is not None
    assert other.ids is not None
    assert len(set(one.ids) & set(other.ids)) == 1
    assert one.take([1]).ids == (one.ids[1],)
    assert one.take(torch.tensor([False, False, True])).ids == (one.ids[2],)
    assert one.take(slice(0, 2)).ids == one.ids[:2]
    stranger = examples(Subset(TensorDataset(INPUTS, TARGETS), [0, 2, 4]), "retain")
    assert not set(one.ids) & set(stranger.ids or ())


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield INPUTS[0], TARGETS[0]


class Unsized(Dataset[Any]):
    def __getitem__(self, row: Any) -> Any:
        return INPUTS[row], TARGETS[row]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (INPUTS, r"a pair \(inputs, targets\) or a map-style torch Dataset, got Tensor"),
        ((INPUTS, TARGETS[:5]), "6 inputs, but 5 targets"),
        ((INPUTS / 0, TARGETS), "inputs are not all finite"),
        ((INPUTS, TARGETS / 0), "targets are not all finite"),
        ((np.array([["a"]]), [1]), "must be numbers, got dtype <U1: encode them first"),
        (Examples(INPUTS, TARGETS, (1, 2)), "6 inputs, but 2 ids"),
        (Endless(), "iterable-style"),
        (Unsized(), "iterable-style"),
        (Subset(TensorDataset(INPUTS, TARGETS), []), "an empty dataset"),
    ],
)
def test_what_cannot_be_read_is_an_error(given: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"forget.*{said}"):
        examples(given, "forget")


def test_a_method_takes_its_defaults_unless_told() -> None:
    model = torch.nn.Linear(2, 3)
    method = METHODS["fine_tune"]
    one, other = (
        method(model, (INPUTS, TARGETS), (INPUTS, TARGETS)),
        method.function(model, (INPUTS, TARGETS), (INPUTS, TARGETS), FineTuneConfig()),
    )
    assert torch.equal(one.weight, other.weight)
    told = method(model, (INPUTS, TARGETS), (INPUTS, TARGETS), FineTuneConfig(epochs=1))
    assert not torch.equal(one.weight, told.weight)
