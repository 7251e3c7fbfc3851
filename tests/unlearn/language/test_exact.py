"""Small steps add up in models kept in 16 bits, as they do in 32."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.unlearn.language.conftest import Knowing
from tests.unlearn.language.test_tuning import parts
from unlearn.language.exact import Descent
from unlearn.language.relearning import knowledge, relearnt
from unlearn.language.tuning import Tuning, tuned


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("longest", [None, 0.5])
def test_weights_are_those_of_adamw_in_32_bits_rounded(kind: torch.dtype, longest: float | None) -> None:
    start, pull = torch.linspace(0.5, 2.0, 7), torch.linspace(-1.0, 1.0, 7)
    parameter, unused = nn.Parameter(start.to(kind, copy=True)), nn.Parameter(torch.ones(2, dtype=kind))
    exact = nn.Parameter(parameter.detach().to(torch.promote_types(kind, torch.float32), copy=True))
    optimizer = torch.optim.AdamW([exact], lr=1e-4, weight_decay=0.0)
    descent = Descent([parameter, unused], 1e-4, longest)
    for _ in range(60):
        descent.step((parameter * pull.to(kind)).sum())
        optimizer.zero_grad()
        (exact * pull.to(kind)).sum().backward()
        if longest is not None:
            nn.utils.clip_grad_norm_([exact], longest)
        optimizer.step()
    assert parameter.dtype == kind
    assert torch.equal(parameter, exact.to(kind))
    assert float((parameter.detach().float() - start).abs().max()) > 3e-3, "sixty steps of 1e-4"
    assert torch.equal(unused, torch.ones(2, dtype=kind))


def test_what_is_tuned_in_small_steps_is_forgotten_and_relearnt_in_16_bits_too(knowing: Knowing) -> None:
    forget, retain = parts(knowing)
    short = copy.deepcopy(knowing.model).bfloat16()
    config = Tuning(loss="npo", keep="nothing", learning_rate=1e-4, epochs=40)
    lost = [tuned(model, knowing.tokenizer, forget, retain, config) for model in (knowing.model, short)]
    exact, found = (knowledge(model, knowing.tokenizer, forget).probability for model in lost)
    assert exact < 0.3
    assert found == pytest.approx(exact, abs=0.1)
    back = [relearnt(model, knowing.tokenizer, forget, learning_rate=1e-4, steps=40) for model in lost]
    exact, found = (knowledge(model, knowing.tokenizer, forget).probability for model in back)
    assert found == pytest.approx(exact, abs=0.1)
    assert all(parameter.dtype == torch.bfloat16 for parameter in back[1].parameters())
