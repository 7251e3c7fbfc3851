"""Losses against their formulas, one text and one token at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import kl_div

from unlearn.language.losses import (
    divergence,
    dpo,
    gradient_ascent,
    log_likelihood,
    npo,
    rmu,
    simnpo,
    undial,
    whp,
)

N, T, V = 3, 5, 7


@pytest.fixture
def said() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    answers = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]]).bool()
    made = {name: torch.randn(N, T, V, generator=rng).double() for name in ("now", "before", "more")}
    return {**made, "ids": torch.randint(V, (N, T), generator=rng), "answers": answers}


def sigma(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def by_hand(logits: torch.Tensor, said: dict[str, torch.Tensor]) -> list[float]:
    found = []
    for row in range(N):
        total = 0.0
        for at in range(1, T):
            if said["answers"][row, at]:
                scores = logits[row, at - 1].exp()
                total += math.log(float(scores[said["ids"][row, at]] / scores.sum()))
        found.append(total)
    return found


def test_likelihood_and_what_is_made_of_it(said: dict[str, torch.Tensor]) -> None:
    now, before = by_hand(said["now"], said), by_hand(said["before"], said)
    lengths = said["answers"].sum(1)
    likelihood = log_likelihood(said["now"], said["ids"], said["answers"])
    reference = log_likelihood(said["before"], said["ids"], said["answers"])
    impossible = said["now"].index_fill(2, said["ids"][0, 1:2], -math.inf)
    assert log_likelihood(impossible, said["ids"], torch.zeros_like(said["answers"])).tolist() == [0.0] * len(lengths)
    assert likelihood.tolist() == pytest.approx(now)
    sizes = [3, 2, 1]
    assert float(gradient_ascent(likelihood, lengths)) == pytest.approx(
        sum(a / n for a, n in zip(now, sizes, strict=True)) / N
    )
    assert float(npo(likelihood, reference, 0.5)) == pytest.approx(
        sum(-2 / 0.5 * math.log(sigma(-0.5 * (a - b))) for a, b in zip(now, before, strict=True)) / N
    )
    assert float(simnpo(likelihood, lengths, 2.0, 0.3)) == pytest.approx(
        sum(-2 / 2.0 * math.log(sigma(-2.0 * a / n - 0.3)) for a, n in zip(now, sizes, strict=True)) / N
    )
    assert float(dpo(reference, likelihood, likelihood, reference, 0.2)) == pytest.approx(
        sum(-1 / 0.2 * math.log(sigma(0.2 * ((b - a) - (a - b)))) for a, b in zip(now, before, strict=True)) / N
    )


def test_npo_is_gradient_ascent_for_a_small_beta(said: dict[str, torch.Tensor]) -> None:
    logits = said["now"].clone().requires_grad_(True)
    likelihood = log_likelihood(logits, said["ids"], said["answers"])
    reference = log_likelihood(said["before"], said["ids"], said["answers"])
    (slope,) = torch.autograd.grad(npo(likelihood, reference, 1e-6), logits, retain_graph=True)
    (ascent,) = torch.autograd.grad(likelihood.mean(), logits)
    assert torch.allclose(slope, ascent, atol=1e-5)


def test_soft_targets(said: dict[str, torch.Tensor]) -> None:
    lowered, generic, count = 0.0, 0.0, 0
    for row in range(N):
        for at in range(1, T):
            if said["answers"][row, at]:
                now = said["now"][row, at - 1].log_softmax(0)
                target = said["before"][row, at - 1].clone()
                target[said["ids"][row, at]] -= 3.0
                lowered -= float(target.softmax(0) @ now)
                louder = torch.relu(said["more"][row, at - 1] - said["before"][row, at - 1])
                generic -= float((said["before"][row, at - 1] - 5.0 * louder).softmax(0) @ now)
                count += 1
    found = undial(said["now"], said["before"], said["ids"], said["answers"], 3.0)
    assert float(found) == pytest.approx(lowered / count)
    assert float(whp(said["now"], said["before"], said["more"], said["answers"])) == pytest.approx(generic / count)


def test_distances(said: dict[str, torch.Tensor]) -> None:
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    direction = torch.zeros(V).double()
    direction[0] = 1
    away, apart, count = 0.0, 0.0, 0
    for row in range(N):
        for at in range(T):
            if mask[row, at]:
                away += sum((float(x) - (4.0 if i == 0 else 0)) ** 2 for i, x in enumerate(said["now"][row, at])) / V
                p, q = said["before"][row, at].softmax(0), said["now"][row, at].softmax(0)
                apart += float((p * (p / q).log()).sum())
                count += 1
    assert float(rmu(said["now"], mask, direction, 4.0)) == pytest.approx(away / count)
    assert float(divergence(said["now"], said["before"], mask)) == pytest.approx(apart / count)
    assert float(divergence(said["now"], said["now"], mask)) == pytest.approx(0, abs=1e-12)


def test_logits_in_16_bits_have_the_gradient_of_the_same_numbers_in_64() -> None:
    rng = torch.Generator().manual_seed(0)
    before = (2 * torch.randn(2, 12, 2000, generator=rng)).bfloat16()
    now = (before.float() + 0.02 * torch.randn(before.shape, generator=rng)).bfloat16()
    ids, answers = torch.randint(2000, (2, 12), generator=rng), torch.ones(2, 12, dtype=torch.bool)
    answers[:, :4] = False

    def all_of(logits: torch.Tensor, reference: torch.Tensor) -> dict[str, torch.Tensor]:
        likelihoods = [log_likelihood(one, ids, answers) for one in (logits, reference)]
        return {
            "npo": npo(likelihoods[0], likelihoods[1], 1.0),
            "undial": undial(logits, reference, ids, answers),
            "divergence": divergence(logits, reference, answers),
        }

    found, exact = now.clone().requires_grad_(True), now.double().requires_grad_(True)
    for name, loss in all_of(found, before).items():
        wanted = all_of(exact, before.double())[name]
        (slope,), (true,) = torch.autograd.grad(loss, found), torch.autograd.grad(wanted, exact)
        assert float(loss) == pytest.approx(float(wanted), rel=1e-3), name
        assert float((slope.double() - true).norm() / true.norm()) < 0.01, name
    # Computed in the type of the logits, that of the divergence would be half wrong: the test can tell.
    short = [one.log_softmax(-1) for one in (found, before)]
    (slope,) = torch.autograd.grad(kl_div(*short, reduction="batchmean", log_target=True), found)
    (true,) = torch.autograd.grad(divergence(exact, before.double(), torch.ones_like(answers)), exact)
    slope, true = slope.double() / slope.double().norm(), true / true.norm()
    assert float((slope - true).norm()) > 0.3
