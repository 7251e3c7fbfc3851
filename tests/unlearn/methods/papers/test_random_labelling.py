"""Random labels: the draw by enumeration, and the training against fine-tuning on the relabelled records."""

from __future__ import annotations

import torch

from tests.unlearn.methods.toys import FULL, near, plain, split
from unlearn.methods import FineTuneConfig, RandomLabelsConfig, fine_tune, random_labels
from unlearn.methods.base import Examples
from unlearn.methods.papers.random_labelling import wrong_labels


def test_every_wrong_class_is_as_likely_and_the_own_one_never_comes() -> None:
    targets = torch.arange(4).repeat(6000)
    drawn = wrong_labels(targets, 4, torch.Generator().manual_seed(0))
    counts = torch.zeros(4, 4).index_put_((targets, drawn), torch.tensor(1.0), accumulate=True)
    assert counts.diagonal().sum() == 0
    # 6,000 draws of three: 2,000 each, with a standard deviation of 37.
    assert (counts[~torch.eye(4, dtype=torch.bool)] - 2000).abs().max() < 200


def test_of_two_classes_it_is_the_other_one() -> None:
    targets = torch.tensor([0, 1, 1, 0])
    assert wrong_labels(targets, 2, torch.Generator().manual_seed(1)).tolist() == [1, 0, 0, 1]


def test_it_is_fine_tuning_on_everything_with_the_labels_drawn() -> None:
    forget, retain = split()
    wrong = wrong_labels(forget.targets, 3, torch.Generator().manual_seed(4))
    mixed = Examples(torch.cat([forget.inputs, retain.inputs]), torch.cat([wrong, retain.targets]))
    reference = fine_tune(plain(), forget, mixed, FineTuneConfig(batch_size=FULL, seed=4))
    assert near(random_labels(plain(), forget, retain, RandomLabelsConfig(batch_size=FULL, seed=4)), reference)
