"""Steering while decoding: against a loop without caches, against the rule by hand, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import GenerationConfig, T5Config, T5ForConditionalGeneration

from experiments.worlds.facts import tokenizer_of
from tests.unlearn.language.conftest import Knowing, made, state_of
from unlearn.errors import ConfigurationError, InputError
from unlearn.language.decoding.proxy import ProxyTuner, Steered, mean_shifts
from unlearn.language.decoding.rules import Assisted, Offset
from unlearn.language.hooks import logits_of
from unlearn.methods.base import Guarantee

IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 3]])


def models(kind: str = "gpt2") -> tuple[nn.Module, nn.Module, nn.Module]:
    base, expert, antiexpert = made(kind, 20), made(kind, 20), made("gpt2", 20)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in expert.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
    return base, expert, antiexpert


def by_hand(tuner: Steered, ids: torch.Tensor, steps: int) -> torch.Tensor:
    """Greedy decoding of one unpadded text, everything computed anew for each token."""
    for place in range(steps):
        said = [logits_of(model, ids[None])[0, -1] for model in (tuner.base, *tuner.helpers)]
        ids = torch.cat([ids, tuner.rule.combine(said[0], said[1:], place).argmax()[None]])
    return ids


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox"])
def test_generation_with_caches_is_that_without(kind: str) -> None:
    tuner = ProxyTuner(*models(kind), alpha=lambda place: 2.0 + 0.5 * place, top=0.01)
    prompts = torch.tensor([[0, 0, 3, 4, 5], [7, 8, 9, 3, 4]])
    found = tuner.generate(prompts, (prompts != 0).long(), max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert found[0, 2:].tolist() == by_hand(tuner, prompts[0, 2:], 8).tolist()
    assert found[1].tolist() == by_hand(tuner, prompts[1], 8).tolist()
    alone = tuner.base.generate(prompts, attention_mask=(prompts != 0).long(), max_new_tokens=8, do_sample=False)  # type: ignore[operator]
    assert found.tolist() != alone.tolist()
    without = tuner.generate(prompts, (prompts != 0).long(), max_new_tokens=8, do_sample=False, use_cache=False)
    assert without.tolist() == found.tolist()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_several_samples_of_each_prompt(kind: str) -> None:
    tuner = ProxyTuner(*models(kind), alpha=2.0)
    prompts = torch.tensor([[0, 0, 3, 4, 5], [7, 8, 9, 3, 4]])
    # So cold that every sample is the likeliest.
    cold = {"do_sample": True, "temperature": 1e-4, "num_return_sequences": 3, "max_new_tokens": 5}
    found = tuner.generate(prompts, (prompts != 0).long(), eos_token_id=None, **cold)
    for row, text in enumerate((prompts[0, 2:], prompts[1])):
        expected = by_hand(tuner, text, 5)[len(text) :].tolist()
        assert found[3 * row : 3 * row + 3, 5:].tolist() == [expected] * 3


def test_a_processor_that_failed_is_not_asked_again() -> None:
    base, expert, antiexpert = models()
    processor = ProxyTuner(base, expert, antiexpert).processor()
    processor(IDS, logits_of(base, IDS)[:, -1])
    longer = torch.cat([IDS, IDS[:, :1]], 1)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    hook = antiexpert.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        processor(longer, torch.zeros(2, 20))
    hook.remove()
    # The expert has read the new token, and would read it once more.
    with pytest.raises(ConfigurationError, match="serves one call of generate"):
        processor(longer, torch.zeros(2, 20))


def test_logits_are_those_of_the_rule() -> None:
    base, expert, antiexpert = models()
    tuner = ProxyTuner(base, expert, antiexpert, alpha=1.5)
    said = [logits_of(model, IDS) for model in (base, expert, antiexpert)]
    assert torch.allclose(tuner.logits(IDS), said[0] + 1.5 * (said[1] - said[2]), atol=1e-5)
    assert torch.allclose(ProxyTuner(base, expert, antiexpert, alpha=0).logits(IDS), said[0], atol=1e-6)
    assert torch.allclose(ProxyTuner(base, base, antiexpert).logits(IDS), 2 * said[0] - said[2], atol=1e-5)


def test_alpha_may_depend_on_the_place() -> None:
    base, expert, antiexpert = models()
    places: list[int] = []

    def alpha(place: int) -> float:
        places.append(place)
        return float(place)

    found = ProxyTuner(base, expert, antiexpert, alpha).logits(IDS, prompt=2)
    assert places == [0, 0, 1, 2]
    said = [logits_of(model, IDS) for model in (base, expert, antiexpert)]
    assert torch.allclose(found[:, 3], said[0][:, 3] + 2 * (said[1] - said[2])[:, 3], atol=1e-5)


def test_an_assistant_that_knows_is_subtracted_where_the_base_model_is_sure() -> None:
    rule = Assisted(weight=-0.5, top=0.1)
    base, assistant = torch.tensor([3.0, 2.0, 0.0]), torch.tensor([4.0, -2.0, 9.0])
    found = rule.combine(base, [assistant], 0)
    assert found[:2].tolist() == [1.0, 3.0]
    assert found[2] == -math.inf, "e^-3 is less than a tenth of the likeliest"
    assert Steered(made("gpt2", 20), [made("gpt2", 20)], rule).logits(IDS).shape == (2, 4, 20)


def test_helpers_with_padded_vocabularies_are_cut() -> None:
    base = made("gpt2", 20)
    wide = made("gpt2", 24)
    assert ProxyTuner(base, wide, wide).logits(IDS).shape == (2, 4, 20)
    with pytest.raises(InputError, match="a helper knows 16 tokens and the base model 20"):
        ProxyTuner(base, made("gpt2", 16), wide).logits(IDS)


def test_no_weight_is_touched_and_nothing_more_than_suppression_is_claimed() -> None:
    base, expert, antiexpert = models()
    before = [state_of(model) for model in (base, expert, antiexpert)]
    tuner = ProxyTuner(base, expert, antiexpert)
    tuner.generate(IDS, max_new_tokens=3, do_sample=False)
    assert [state_of(model) for model in (base, expert, antiexpert)] == before
    assert tuner.guarantee is Guarantee.SUPPRESSION


def test_a_trace_says_which_tokens_move(knowing: Knowing) -> None:
    fact = knowing.world.facts[0]
    other = made("gpt2", len(knowing.tokenizer))
    tuner = ProxyTuner(knowing.model, other, knowing.model, alpha=1.0, tokenizers=(knowing.tokenizer,) * 2)
    (answer, dot) = tuner.trace(knowing.tokenizer, fact.prompt(), f"{fact.answer} .")
    assert (answer.token, dot.token) == (fact.answer, ".")
    assert answer.base > 0.9
    assert answer.shift < -0.5, "what is added is a model that knows nothing, what is subtracted the one that knows"
    assert mean_shifts([answer, dot], lambda token: "stop" if token == "." else "word") == {
        "word": answer.shift, "stop": dot.shift,
    }  # fmt: skip


def test_bad_input() -> None:
    base, expert, antiexpert = models()
    tuner = ProxyTuner(base, expert, antiexpert)
    with pytest.raises(ConfigurationError, match="beam search is not supported"):
        tuner.generate(IDS, num_beams=2)
    with pytest.raises(ConfigurationError, match="beam search is not supported"):
        tuner.generate(IDS, generation_config=GenerationConfig(num_beams=2))
    with pytest.raises(ConfigurationError, match="generate returns tokens alone"):
        tuner.generate(IDS, return_dict_in_generate=True)
    with pytest.raises(ConfigurationError, match="generate returns tokens alone"):
        tuner.generate(IDS, generation_config=GenerationConfig(return_dict_in_generate=True))
    with pytest.raises(ConfigurationError, match="assisted generation is not supported"):
        tuner.generate(IDS, assistant_model=expert)
    with pytest.raises(ConfigurationError, match="assisted generation is not supported"):
        tuner.generate(IDS, generation_config=GenerationConfig(prompt_lookup_num_tokens=2))
    with pytest.raises(ConfigurationError, match="helpers read tokens"):
        tuner.processor()(IDS[:, :0], torch.zeros(2, 20))
    translator = T5ForConditionalGeneration(
        T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    )
    with pytest.raises(ConfigurationError, match="has an encoder"):
        ProxyTuner(base, expert, translator)
    with pytest.raises(ConfigurationError, match="is not that of the prompts"):
        tuner.processor(torch.ones(3, 4))(IDS, logits_of(base, IDS)[:, -1])
    with pytest.raises(ConfigurationError, match="is not that of the prompts"):
        tuner.processor(torch.ones(2, 5))(IDS, logits_of(base, IDS)[:, -1])
    with pytest.raises(ConfigurationError, match="needs 2 helpers, got 1"):
        Steered(base, [expert], Offset())
    with pytest.raises(InputError, match="top must be"):
        Offset(top=1.0)
    with pytest.raises(InputError, match="each number means the same token"):
        ProxyTuner(base, expert, antiexpert, tokenizers=(tokenizer_of(["a b"]), tokenizer_of(["a c"])))
    processor = tuner.processor()
    processor(IDS, logits_of(base, IDS)[:, -1])
    with pytest.raises(ConfigurationError, match="serves one call of generate"):
        processor(IDS, logits_of(base, IDS)[:, -1])
    with torch.no_grad():
        next(expert.parameters()).fill_(math.nan)
    with pytest.raises(InputError, match="not a number"):
        tuner.generate(IDS, max_new_tokens=1)
    with pytest.raises(InputError, match="not a number"):
        tuner.logits(IDS)
    with pytest.raises(ConfigurationError, match="has no generate"):
        Steered(nn.Linear(2, 2), [expert, antiexpert], Offset()).generate(IDS)
