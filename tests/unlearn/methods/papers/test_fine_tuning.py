"""Fine-tuning against a plain loop, and against the solution it must end at."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from tests.unlearn.methods.toys import FULL, distance, linear, near, plain, same, split
from unlearn.methods import FineTuneConfig, fine_tune


def test_it_is_a_plain_loop_over_what_stays() -> None:
    forget, retain = split()
    reference = plain()
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.02, weight_decay=0.1)
    for _ in range(7):
        optimizer.zero_grad()
        cross_entropy(reference(retain.inputs), retain.targets).backward()
        optimizer.step()
    config = FineTuneConfig(epochs=7, learning_rate=0.02, batch_size=FULL, optimizer="adam", weight_decay=0.1)
    assert near(fine_tune(plain(), forget, retain, config), reference)


def test_where_the_loss_is_strongly_convex_it_ends_at_the_retrained_model() -> None:
    forget, retain = split("regression")
    solved = linear(1)
    design = torch.cat([retain.inputs, torch.ones(len(retain), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(design, retain.targets).solution
    with torch.no_grad():
        solved.weight.copy_(solution[:-1].T)
        solved.bias.copy_(solution[-1])
    config = FineTuneConfig(epochs=600, learning_rate=0.2, momentum=0.5, batch_size=FULL)
    assert distance(fine_tune(linear(1), forget, retain, config), solved) < 1e-9


def test_what_is_forgotten_plays_no_part() -> None:
    forget, retain = split()
    assert same(fine_tune(plain(), forget, retain), fine_tune(plain(), forget.take(slice(0, 3)), retain))
