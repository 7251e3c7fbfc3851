"""IKE against the model itself on the text put together by hand."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from tests.unlearn.language.conftest import Knowing, made
from tests.unlearn.language.editing.lessons import edits_of, lessons_of
from unlearn.errors import ConfigurationError, InputError
from unlearn.language.editing.base import Edit, Task
from unlearn.language.editing.ike import Ike, context, ike
from unlearn.language.editing.lessons import Lesson
from unlearn.language.hooks import logits_of
from unlearn.language.text import encode, pad

PLAIN = Ike(fact="{} . ", use="{} . ", query="")


def task_of(knowing: Knowing, number: int = 1) -> Task:
    return Task(knowing.model, knowing.tokenizer, edits_of(knowing, number), ())


def test_the_text_is_that_of_the_paper(knowing: Knowing) -> None:
    lesson = Lesson(Edit("Bob speaks", "Bob", "Thai"), ("the tongue of Bob is",), (("Eve speaks", "Greek"),))
    asked = [Edit("Ann speaks", "Ann", "Dutch")]
    config = Ike((lesson,), number=3, shares=(1, 1, 1))
    assert context(Task(knowing.model, knowing.tokenizer, asked, ()), config) == (
        "New Fact: Bob speaks Thai\nPrompt: Bob speaks Thai\n\n"
        "New Fact: Bob speaks Thai\nPrompt: the tongue of Bob is Thai\n\n"
        "New Fact: Bob speaks Thai\nPrompt: Eve speaks Greek\n\n"
        "New Fact: Ann speaks Dutch\nPrompt:"
    )


def test_the_nearest_lessons_are_taken_and_the_nearest_stands_last(knowing: Knowing) -> None:
    """Against cosines of mean embeddings, one at a time."""
    task, lessons = task_of(knowing), lessons_of(knowing, edits_of(knowing), each=1)
    weight = knowing.model.get_input_embeddings().weight.detach()  # type: ignore[operator]

    def mean(one: Edit) -> torch.Tensor:
        ids = knowing.tokenizer(f"{one.prompt} {one.target_new}")["input_ids"]
        return sum(weight[token] for token in ids) / len(ids)  # type: ignore[no-any-return]

    ours = mean(task.edits[0])
    order = sorted(lessons, key=lambda lesson: float(torch.cosine_similarity(mean(lesson.edit), ours, dim=0)))
    shown = context(task, dataclasses.replace(PLAIN, lessons=lessons, number=4, shares=(1, 0, 0)))
    stated = [f"{lesson.edit.prompt} {lesson.edit.target_new} . " for lesson in order[-4:]]
    new = f"{task.edits[0].prompt} {task.edits[0].target_new} . "
    assert shown == "".join(text + text for text in stated) + new


def test_logits_are_those_of_the_text_put_together(knowing: Knowing) -> None:
    task = task_of(knowing, 2)
    config = dataclasses.replace(PLAIN, lessons=lessons_of(knowing, task.edits, each=1), number=4)
    before = encode(knowing.tokenizer, context(task, config)).ids
    texts = [encode(knowing.tokenizer, text) for text in knowing.world.sentences[:6:2]] + [
        encode(knowing.tokenizer, "F1 L1")
    ]
    padded = pad(texts, 0)
    expected = [logits_of(knowing.model, torch.cat([before, text.ids])[None])[0, len(before) :] for text in texts]
    with ike(task, config):
        together = logits_of(knowing.model, padded.ids, padded.mask)
        alone = [logits_of(knowing.model, text.ids[None])[0] for text in texts]
        named = knowing.model(input_ids=texts[0].ids[None], return_dict=False)[0][0]
    assert together.shape[:2] == padded.ids.shape
    for row, text in enumerate(texts):
        assert torch.allclose(together[row, : len(text.ids)], expected[row], atol=1e-4)
        assert torch.allclose(alone[row], expected[row], atol=1e-5)
    assert torch.allclose(named, expected[0], atol=1e-5)


def test_the_loss_is_that_of_the_queries_tokens(knowing: Knowing) -> None:
    task = task_of(knowing)
    ids = encode(knowing.tokenizer, knowing.world.sentences[7]).ids[None]
    with ike(task, PLAIN):
        said = knowing.model(ids, labels=ids)
    wanted = torch.nn.functional.cross_entropy(said.logits[0, :-1], ids[0, 1:])
    assert said.loss.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_two_stand_before_each_other(knowing: Knowing) -> None:
    one, two = (Task(knowing.model, knowing.tokenizer, [asked], ()) for asked in edits_of(knowing, 2))
    query = encode(knowing.tokenizer, knowing.world.sentences[3]).ids
    first, second = (encode(knowing.tokenizer, context(task, PLAIN)).ids for task in (one, two))
    expected = logits_of(knowing.model, torch.cat([second, first, query])[None])[0, -len(query) :]
    with ike(one, PLAIN), ike(two, PLAIN):
        assert torch.allclose(logits_of(knowing.model, query[None])[0], expected, atol=1e-5)


@pytest.mark.parametrize("number", [1, 2])
def test_a_mark_of_the_beginning_stands_there_once_before_all_edits(knowing: Knowing, number: int) -> None:
    """Logits, loss and generated tokens, padded on either side, against texts put together by hand."""
    mark = knowing.tokenizer.eos_token_id
    tasks = [
        Task(knowing.model, _marking(knowing.tokenizer), [asked], ()) for asked in reversed(edits_of(knowing, number))
    ]
    stated = [encode(knowing.tokenizer, context(task, PLAIN)).ids for task in reversed(tasks)]
    queries = [encode(knowing.tokenizer, text).ids for text in (knowing.world.sentences[3], "F1 L1")]
    marked = [torch.cat([torch.tensor([mark]), ids]) for ids in queries]
    whole = [torch.cat([torch.tensor([mark]), *stated, ids]) for ids in queries]
    expected = [logits_of(knowing.model, ids[None])[0] for ids in whole]
    left = torch.stack([torch.cat([ids.new_zeros(len(marked[0]) - len(ids)), ids]) for ids in marked])
    seen = (torch.arange(left.shape[1]) >= torch.tensor([left.shape[1] - len(ids) for ids in marked])[:, None]).long()
    right = torch.nn.utils.rnn.pad_sequence(marked, batch_first=True)
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}
    continued = [knowing.model.generate(ids[None], **options)[0, len(ids) :] for ids in whole]  # type: ignore[operator]
    with ExitStack() as stack:
        for task in tasks:
            stack.enter_context(ike(task, PLAIN))
        on_the_left = knowing.model(left, attention_mask=seen, position_ids=(seen.cumsum(1) - 1).clamp(min=0)).logits
        on_the_right = logits_of(knowing.model, right, (right > 0).long())
        labelled = knowing.model(marked[0][None], labels=marked[0][None]).loss
        for use in (True, False):
            found = knowing.model.generate(left, attention_mask=seen, use_cache=use, **options)  # type: ignore[operator]
            assert torch.equal(found[:, left.shape[1] :], torch.stack(continued))
    for row, (ids, said) in enumerate(zip(marked, expected, strict=True)):
        assert torch.allclose(on_the_left[row, -len(ids) :], said[-len(ids) :], atol=1e-4)
        assert torch.allclose(on_the_right[row, : len(ids)], said[-len(ids) :], atol=1e-4)
    wanted = torch.nn.functional.cross_entropy(expected[0][-len(queries[0]) - 1 : -1], queries[0])
    assert labelled.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_a_copied_cache_serves_two_edits(knowing: Knowing) -> None:
    one, two = (Task(knowing.model, knowing.tokenizer, [asked], ()) for asked in edits_of(knowing, 2))
    query = encode(knowing.tokenizer, knowing.world.sentences[3]).ids[None]
    with ike(one, PLAIN), ike(two, PLAIN), torch.no_grad():
        expected = knowing.model(query).logits[:, 2:]
        cache = copy.deepcopy(knowing.model(query[:, :2], use_cache=True).past_key_values)
        found = knowing.model(query[:, 2:], attention_mask=torch.ones_like(query), past_key_values=cache).logits
    assert torch.allclose(found, expected, atol=1e-4)


def _marking(tokenizer: Any) -> Any:
    """The same, with a mark at the beginning of each text."""
    found = copy.deepcopy(tokenizer)
    mark = found.eos_token_id
    found.backend_tokenizer.post_processor = TemplateProcessing(single="<eos> $A", special_tokens=[("<eos>", mark)])
    return found


def test_padding_takes_no_place_in_a_narrow_window(knowing: Knowing) -> None:
    model = made("mistral", len(knowing.tokenizer), sliding_window=8)
    task = dataclasses.replace(task_of(knowing), model=model)
    query = encode(knowing.tokenizer, knowing.world.sentences[3]).ids
    padded = torch.cat([query.new_zeros(5), query])[None]
    mask = (torch.arange(padded.shape[1]) >= 5).long()[None]
    with ike(task, PLAIN):
        expected = logits_of(model, query[None])
        found = model(padded, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
    assert torch.allclose(found[:, 5:], expected, atol=1e-5)


def test_errors(knowing: Knowing) -> None:
    task = task_of(knowing)
    with pytest.raises(InputError, match=r"fact and use need \{\}"):
        Ike(fact="New Fact")
    with pytest.raises(InputError, match="shares hold a positive number"):
        Ike(shares=(0, 0, 0))
    with pytest.raises(InputError, match="lesson 0 holds an edited fact"):
        ike(task, Ike((Lesson(task.edits[0]),)))
    with ike(task, PLAIN):
        with pytest.raises(ConfigurationError, match="call the model with input_ids"):
            knowing.model(inputs_embeds=torch.zeros(1, 2, 48))
        with pytest.raises(ConfigurationError, match="everything but input_ids by name"):
            knowing.model(torch.zeros((1, 2), dtype=torch.int64), None)
        with pytest.raises(ConfigurationError, match="generate with a cache that grows"):
            knowing.model.generate(
                torch.ones((1, 2), dtype=torch.int64), max_new_tokens=2, cache_implementation="static"
            )  # type: ignore[operator]


def test_no_place_for_the_query(knowing: Knowing) -> None:
    task = task_of(knowing, 48)
    with pytest.raises(InputError, match=r"would put \d+ tokens before the query, and the model reads 256 at most"):
        ike(task, PLAIN)
