"""Make an edit that somebody asked for, in a worker: a folder with a language model in, an edited folder out.

What is measured is measured on the model as it is read back from the folder that was written, so that rounding to the
type in which the weights are stored counts as well.
"""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shards.digest import Json
from unlearn.errors import ConfigurationError, InputError
from unlearn.facts import Asked, Fact, Measured, fact_from
from unlearn.language.editing.base import Edit, WeightEdit
from unlearn.language.editing.options import config_of, find_editor
from unlearn.language.editing.registry import EditWarning, Guard, edit, perplexity
from unlearn.language.hooks import ARCHITECTURES, frozen, logits_of
from unlearn.language.metrics import generates
from unlearn.language.text import encode, filler_of, is_known, pad
from unlearn.model_folder import Note, check_folder, copy_changed, folder_digest, stored, weights_commitment

WATCHED = 64
"""Texts on which perplexity is measured, at most."""

COMPARED = 200
"""Texts on which locality is measured, at most."""

LARGEST = 10.0
"""An edit that multiplies perplexity by more than this destroys the model."""

_BATCH = 32
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass
class _NotMadeError(Exception):
    """Why an edit was not made: one of `facts.NOT_MADE`, and more, for whoever asked."""

    code: str
    detail: str = ""


def make(order: Any) -> Json:
    """Make an edit.

    Args:
        order: `source`, the model's folder, and `weights`, the salted digest it must have; `target`, the folder to
            write, which does not exist; `facts`, as `Fact.to_json` writes them; `texts`; `editor` and its `config`;
            `edit`, id of the request, and `salt`, hex.

    Returns:
        `weights`, salted digest of the edited model, and `measured`; or `not_made`, one of `facts.NOT_MADE`, and
        `detail`; or `disk`, why the disk refused. Then nothing but the target was changed, which is to be removed.
    """
    try:
        return _make(order)
    except _NotMadeError as error:
        return {"not_made": error.code, "detail": error.detail}
    finally:
        # What refers to itself would keep the facts in a worker that waits for its next order.
        gc.collect()


def load(folder: Path) -> tuple[nn.Module, Any]:
    """Load a language model from its folder: no network, no code of the folder's, nothing unpickled.

    Args:
        folder: The folder.

    Returns:
        The model in evaluation mode, in float32, and its tokenizer.

    Raises:
        InputError: If it is no model, or some of its weights are missing.
        ConfigurationError: If its inside is not known.
    """
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    kind = check_folder(folder)["model_type"]
    if kind not in ARCHITECTURES:
        raise ConfigurationError(f"{folder} is a {kind}, and there are {', '.join(ARCHITECTURES)}")
    try:
        with _quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(  # nosec B615 - a folder, and nothing is fetched
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                attn_implementation="eager",  # another one may name code to be fetched
                output_loading_info=True,
            )
        # Nothing beside this file is read: no class that a configuration names.
        model, found = loaded
        tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_file=str(folder / "tokenizer.json")
        )
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError) as error:
        raise InputError(f"{folder} cannot be loaded ({type(error).__name__}: {_first_line(error)})") from error
    lacking = sorted(map(str, found["missing_keys"]))
    wrong = sorted(map(str, found.get("mismatched_keys", ())))
    if lacking or wrong:
        raise InputError(f"{folder} lacks weights, or has them in another shape ({(lacking + wrong)[0]})")
    return model.float().eval(), tokenizer


def gives(model: nn.Module, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> Asked:
    """How often a model gives the whole answer after a prompt, by greedy generation.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        pairs: Prompts with answers.

    Returns:
        The counts.
    """
    return Asked(int(generates(model, tokenizer, pairs).sum()) if pairs else 0, len(pairs))


def _make(order: Any) -> Json:
    source, target, salt = Path(order["source"]), Path(order["target"]), bytes.fromhex(order["salt"])
    facts = [fact_from(parts) for parts in order["facts"]]
    texts: list[str] = order["texts"]
    try:
        if weights_commitment(salt, folder_digest(source)) != order["weights"]:
            raise _NotMadeError("changed")
        model, tokenizer = load(source)
    except (InputError, ConfigurationError) as error:
        raise _NotMadeError("no model", str(error)) from error
    neutral = [text for text in texts if not any(fact.subject in text for fact in facts)]
    asked = _cut(_spread(neutral, COMPARED))
    before = _perplexity(model, tokenizer, texts)
    if not math.isfinite(before):
        raise _NotMadeError("not finite")
    said = _next_tokens(model, tokenizer, asked)
    changed = _edited(model, tokenizer, facts, texts, order["editor"], order["config"], source)
    del model
    try:
        copy_changed(source, target, changed, Note(order["edit"], salt))
    except OSError as error:
        return {"disk": str(error)}
    try:
        model, tokenizer = load(target)
    except InputError as error:
        raise _NotMadeError("no model", str(error)) from error
    after = _perplexity(model, tokenizer, texts)
    if not after <= LARGEST * before:
        raise _NotMadeError(
            "destroyed", f"from {before:.3g} to {after:.3g}, and at most {LARGEST:g} times as much is allowed"
        )
    measured = Measured(
        gives(model, tokenizer, [(fact.prompt, fact.new) for fact in facts]),
        gives(model, tokenizer, [(prompt, fact.new) for fact in facts for prompt in fact.rephrasings]),
        Asked(int((_next_tokens(model, tokenizer, asked) == said).sum()), len(asked)),
    )
    if measured.reliability.given != measured.reliability.asked:
        given, wanted = measured.reliability.pair
        raise _NotMadeError("unreliable", f"it gives {given:,} of {wanted:,}")
    return {"weights": weights_commitment(salt, folder_digest(target)), "measured": measured.to_json()}


def _edited(
    model: nn.Module,
    tokenizer: Any,
    facts: Sequence[Fact],
    texts: Sequence[str],
    name: str,
    options: Mapping[str, Json],
    source: Path,
) -> dict[str, bytes]:
    """New bytes of the stored tensors that the edit changes."""
    wanted = [Edit(fact.prompt, fact.subject, fact.new) for fact in facts]
    for one in wanted:
        if not is_known(tokenizer, encode(tokenizer, one.prompt, one.target_new).answer):
            raise _NotMadeError("editor", f"the tokenizer has no tokens for all of {one.target_new!r}")
    watched = tuple(_spread(texts, WATCHED))
    try:
        config = config_of(find_editor(name), options)
        # Whether it destroys the model, and whether it takes, is asked once it is written; a warning would name facts.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EditWarning)
            made = edit(model, tokenizer, wanted, name, config, texts=texts, guard=Guard(watched, math.inf))
    except (InputError, ConfigurationError) as error:
        raise _NotMadeError("editor", str(error)) from error
    assert isinstance(made, WeightEdit)  # noqa: S101 - of editors that change weights
    places, parameters = stored(source), dict(model.named_parameters())
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    found: dict[str, bytes] = {}
    for parameter in made.differences:
        at = next((key for key in (parameter, parameter.removeprefix(prefix)) if key in places), None)
        if at is None or places[at].dtype not in _DTYPES:
            raise _NotMadeError("no model", f"its weights do not hold {parameter} as a matrix of real numbers")
        stored_as = parameters[parameter].detach().to(_DTYPES[places[at].dtype]).contiguous()
        found[at] = stored_as.cpu().flatten().view(torch.uint8).numpy().tobytes()
    return found


def _perplexity(model: nn.Module, tokenizer: Any, texts: Sequence[str]) -> float:
    try:
        return perplexity(model, tokenizer, _spread(texts, WATCHED))
    except (InputError, ConfigurationError) as error:
        raise _NotMadeError("editor", str(error)) from error


def _next_tokens(model: nn.Module, tokenizer: Any, prompts: Sequence[str]) -> torch.Tensor:
    """`[n]` the likeliest token after each prompt."""
    encoded = [encode(tokenizer, prompt) for prompt in prompts]
    found = [torch.zeros(0, dtype=torch.int64)]
    for at in range(0, len(encoded), _BATCH):
        padded = pad(encoded[at : at + _BATCH], filler_of(tokenizer))
        with frozen(model), torch.no_grad():
            logits = logits_of(model, padded.ids, padded.mask)
        found.append(logits[torch.arange(len(logits)), padded.mask.sum(1) - 1].argmax(-1))
    return torch.cat(found)


def _spread(texts: Sequence[str], most: int) -> list[str]:
    """At most so many, evenly spread over all."""
    step = max(math.ceil(len(texts) / most), 1)
    return list(texts[::step])


def _cut(texts: Sequence[str]) -> list[str]:
    """Each without its last word; texts of one word are left out."""
    return [" ".join(words[:-1]) for text in texts if len(words := text.split()) > 1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and reports that loading shows."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]
