"""An edit of a language model: durable, made whole or not at all, measured, and never taken for a deletion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import unlearn
from tests.unlearn import attacks
from tests.unlearn.editable import OPTIONS, TEXTS, Here, edited, fact, save_model, with_model
from tests.unlearn.helpers import filled, names, raw
from unlearn import Fact, Workspace
from unlearn.errors import (
    ConfigurationError,
    DamageError,
    IdempotencyError,
    InputError,
    NotAppliedError,
    StorageError,
    UnknownIdError,
    VerificationError,
)
from unlearn.facts import LANGUAGE_MODEL, NOT_MADE, TRANSITIONS, EditRequest, EditState, check_move, parse_fact
from unlearn.model_folder import NOTE, folder_digest, stored
from unlearn.receipt import public_key_from_pem, verify_offline
from unlearn.receipt.strict import MAX_NAME


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlearn.editing.LocalExecutor", Here)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model, never changed."""
    return save_model(tmp_path_factory.mktemp("saved") / "lm")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace, never changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    filled(folder).close()
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "lm"))


@pytest.fixture
def known(trained: Path, model: Path, tmp_path: Path) -> Iterator[tuple[Workspace, str]]:
    """A workspace that knows a language model, and the model's id."""
    workspace, name = with_model(Path(shutil.copytree(trained, tmp_path / "run")), model)
    yield workspace, name
    workspace.close()


@pytest.fixture(scope="module")
def _made(trained: Path, saved: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EditRequest, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unlearn.editing.LocalExecutor", Here)
        home = tmp_path_factory.mktemp("made")
        workspace, name = with_model(
            Path(shutil.copytree(trained, home / "run")), Path(shutil.copytree(saved, home / "lm"))
        )
        with closing(workspace):
            done = edited(workspace, name, home / "new", fact(), fact(3), reason="asked by letter")
            return home, done, workspace.public_key


@pytest.fixture
def made(_made: tuple[Path, EditRequest, str], tmp_path: Path) -> tuple[Path, EditRequest, str]:
    """A workspace, a model and what became of it by an edit of two facts; the request; the public key."""
    home, done, key = _made
    return Path(shutil.copytree(home, tmp_path / "made")), done, key


def receipt_of(home: Path, done: EditRequest) -> bytes:
    return (home / "run" / "receipts" / f"{done.id}-edited.json").read_bytes()


# --- what was made -----------------------------------------------------------------------------------------------


def test_an_edit_is_made_registered_and_receipted(made: tuple[Path, EditRequest, str]) -> None:
    home, done, _ = made
    with closing(Workspace.open(home / "run")) as workspace:
        assert workspace.edit(done.id).state is EditState.RECEIPTED
        assert workspace.edits() == [workspace.edit(done.id)]
        assert workspace.requests() == []
        assert workspace.status().requests["forgotten"] == 0
        before, after = workspace.artefacts()
        assert (before.id, before.tainted_by) == (done.artefact, (done.id,))
        assert (after.id, after.kind, after.tainted_by) == (done.made, LANGUAGE_MODEL, ())
        assert [item.stage for item in workspace.receipts(done.id)] == ["edited"]
        kinds = [entry.event.kind for entry in workspace._site.ledger.entries()]
    assert kinds[-5:] == ["fact-submitted", "artefact-registered", "artefact-tainted", "edited", "receipted"]
    assert done.guarantee == "empirical"
    assert done.measured is not None
    assert (done.measured.reliability.pair, done.measured.generalization.asked) == ([2, 2], 4)
    neutral = [text for text in TEXTS if not any(item.subject in text for item in (fact(), fact(3)))]
    assert 0 < done.measured.locality.asked == len(neutral)


def test_only_the_edited_matrix_differs(made: tuple[Path, EditRequest, str]) -> None:
    from safetensors.numpy import load_file

    home, _, _ = made
    old, new = (load_file(home / name / "model.safetensors") for name in ("lm", "new"))
    assert old.keys() == new.keys()
    assert [name for name in old if (old[name] != new[name]).any()] == ["transformer.h.1.mlp.c_proj.weight"]
    beside = {path.name for path in (home / "new").iterdir()} - {path.name for path in (home / "lm").iterdir()}
    assert beside == {NOTE}


def test_nothing_of_the_old_model_changes(saved: Path, made: tuple[Path, EditRequest, str]) -> None:
    assert raw(made[0] / "lm") == raw(saved)


def test_no_fact_and_no_person_is_left_in_plain_words(made: tuple[Path, EditRequest, str]) -> None:
    home, done, _ = made
    told = b"".join(raw(home / "run").values())
    for item in (fact(), fact(3)):
        for words in (item.prompt, item.subject, item.new, *item.rephrasings):
            assert words.encode() not in told
    assert str(done.opening).encode() not in told
    assert not any(TEXTS[0].encode() in data for data in raw(home / "run").values())
    assert list((home / "run" / "edits").iterdir()) == []


def test_whoever_deletes_later_taints_the_edited_model_too(made: tuple[Path, EditRequest, str]) -> None:
    home, done, _ = made
    with closing(Workspace.open(home / "run")) as workspace:
        request = workspace.forget(record_ids=names([3]))
        assert {item.id: item.tainted_by for item in workspace.artefacts()} == {
            done.artefact: (done.id, request.id),
            done.made: (request.id,),
        }
        later = edited(workspace, str(done.made), home / "newer", fact(4))
        assert workspace.artefacts()[-1].id == later.made
        assert workspace.artefacts()[-1].tainted_by == (request.id,)  # it had seen the record as well


@pytest.mark.slow
def test_two_edits_one_after_the_other(made: tuple[Path, EditRequest, str]) -> None:
    home, done, key = made
    with closing(Workspace.open(home / "run")) as workspace:
        later = edited(workspace, str(done.made), home / "newer", fact(4))
        found = unlearn.verify_edit(workspace.receipt(later.id), key, workspace=workspace, model=home / "newer")
    assert (found.predicate.before.artefact, found.predicate.after.artefact) == (done.made, later.made)


# --- verification ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_name_that_receipts_can_hold_stays_one(known: tuple[Workspace, str], model: Path, tmp_path: Path) -> None:
    """Each edit of an edit has a longer name, and a receipt that cannot name what it taints can never be issued."""
    workspace, _ = known
    longest = workspace.register("n" * MAX_NAME, LANGUAGE_MODEL, str(model))
    done = edited(workspace, longest.id, tmp_path / "new", fact())
    assert (done.state, workspace.artefacts()[-1].id) == (EditState.RECEIPTED, done.made)
    assert workspace.artefacts()[-1].name == longest.name


def test_a_receipt_is_verified_alone_with_the_model_and_with_the_workspace(made: tuple[Path, EditRequest, str]) -> None:
    home, done, key = made
    alone = unlearn.verify_edit(receipt_of(home, done), key)
    assert [step.number for step in alone.steps] == [1, 2, 3, 4, 5, 6]
    assert len(alone.not_looked_at) == 4
    assert (alone.predicate.kind, alone.predicate.request) == ("empirical", done.id)
    assert alone.predicate.measured == done.measured
    whole = unlearn.verify_edit(
        receipt_of(home, done),
        key,
        workspace=home / "run",
        model=home / "new",
        model_before=home / "lm",
        opening=done.opening,
        facts=[fact(), fact(3)],
        request_id=done.id,
    )
    assert [step.number for step in whole.steps] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16]
    assert "gives all 2 new answers" in whole.steps[8].detail


def test_a_verifier_of_deletions_refuses_it(made: tuple[Path, EditRequest, str]) -> None:
    home, done, key = made
    for check in (
        lambda: unlearn.verify(receipt_of(home, done), key),
        lambda: verify_offline(receipt_of(home, done), [public_key_from_pem(key.encode())]),
    ):
        with pytest.raises(VerificationError, match="predicateType must be 'urn:sisa-unlearn:receipt:v1'") as found:
            check()
        assert found.value.step == 3


def test_a_verifier_of_edits_refuses_a_deletion(made: tuple[Path, EditRequest, str]) -> None:
    home, _, key = made
    with closing(Workspace.open(home / "run")) as workspace:
        receipt = workspace.receipt(workspace.forget(record_ids=names([2])).id)
    with pytest.raises(VerificationError, match="predicateType must be 'urn:sisa-unlearn:edit:v1'"):
        unlearn.verify_edit(receipt, key)


@pytest.mark.parametrize(
    ("changes", "step", "said"),
    [
        ({"facts": [fact()]}, 7, "did not name exactly these facts"),
        ({"facts": [fact(3), fact()]}, 7, "did not name exactly these facts"),
        ({"opening": "00" * 32}, 7, "the opening belongs to another request"),
        ({"request_id": "edit-0000000000000000"}, 4, "somebody else's request"),
    ],
)
def test_other_facts_are_noticed(
    made: tuple[Path, EditRequest, str], changes: dict[str, Any], step: int, said: str
) -> None:
    home, done, key = made
    given: dict[str, Any] = {"opening": done.opening, "facts": [fact(), fact(3)], **changes}
    with pytest.raises(VerificationError, match=said) as found:
        unlearn.verify_edit(receipt_of(home, done), key, **given)
    assert found.value.step == step


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _other_answer(path: Path) -> None:
    config = json.loads(path.read_bytes())
    config["n_head"] = 1
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda home: _flip(home / "new" / "model.safetensors"), "not those the receipt commits to"),
        (lambda home: _other_answer(home / "new" / "config.json"), "not those the receipt commits to"),
        (lambda home: (home / "new" / NOTE).unlink(), "does not say that it was made for"),
        (lambda home: shutil.copy(home / "lm" / "model.safetensors", home / "new"), "not those the receipt commits to"),
        (lambda home: (home / "new" / "model.safetensors").write_bytes(b"short"), "no safetensors file, or is damaged"),
        (lambda home: _flip(home / "lm" / "model.safetensors"), "not the model from before"),
    ],
    ids=["new_weights", "new_config", "no_note", "old_weights_again", "half_a_file", "old_weights_changed"],
)
def test_a_changed_folder_is_noticed(made: tuple[Path, EditRequest, str], change: Any, said: str) -> None:
    home, done, key = made
    change(home)
    with pytest.raises(VerificationError, match=said) as found:
        unlearn.verify_edit(receipt_of(home, done), key, model=home / "new", model_before=home / "lm")
    assert found.value.step == 8


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE edit SET reason = 'another'", "the reason of request"),
        ("UPDATE edit SET output = '/elsewhere'", "the reason of request"),
        ("UPDATE edit SET editor = 'rome'", "other edits of language models"),
        ("UPDATE edit SET facts = '[]'", "other edits of language models"),
        ("UPDATE edit SET measured = replace(measured, '2', '3')", "other edits of language models"),
        ("UPDATE edit SET state = 'submitted'", "other edits of language models"),
        ("UPDATE edit SET failure = 'x'", "other edits of language models"),
        ("DELETE FROM edit", "other edits of language models"),
        ("DELETE FROM taint", "other artefacts"),
    ],
)
def test_a_changed_register_is_noticed(made: tuple[Path, EditRequest, str], statement: str, said: str) -> None:
    home, done, key = made
    attacks.execute(home / "run", statement)
    with pytest.raises(VerificationError, match=said) as found:
        unlearn.verify_edit(receipt_of(home, done), key, workspace=home / "run")
    assert found.value.step == 13


def test_a_missing_receipt_of_an_edit_is_noticed_by_whoever_verifies_a_deletion(
    made: tuple[Path, EditRequest, str],
) -> None:
    home, done, key = made
    with closing(Workspace.open(home / "run")) as workspace:
        receipt = workspace.receipt(workspace.forget(record_ids=names([2])).id).data
    assert unlearn.verify(receipt, key, workspace=home / "run").steps[-1].number == 16
    (home / "run" / "receipts" / f"{done.id}-edited.json").unlink()
    with pytest.raises(VerificationError, match="was issued and is missing"):
        unlearn.verify(receipt, key, workspace=home / "run")


# --- folders of every kind ----------------------------------------------------------------------------------------


def test_a_model_in_several_files_of_short_numbers(known: tuple[Workspace, str], model: Path, tmp_path: Path) -> None:
    """Each tensor stays in its file and in its type, and what is measured is what that rounding left."""
    from unlearn.language.requested import load

    loaded: Any = load(model)[0]
    (model / "model.safetensors").unlink()
    loaded.to(torch.bfloat16).save_pretrained(model, max_shard_size="30KB")
    workspace, name = known
    done = edited(workspace, name, tmp_path / "new")
    assert {item.dtype for item in stored(tmp_path / "new").values()} == {"BF16"}
    assert len({item.file for item in stored(tmp_path / "new").values()}) > 2
    unlearn.verify_edit(
        *(workspace.receipt(done.id), workspace.public_key),
        model=tmp_path / "new",
        model_before=model,
        opening=done.opening,
        facts=[fact()],
    )


def test_tensors_without_the_prefix_of_the_model(known: tuple[Workspace, str], model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(model / "model.safetensors")
    short = {name.removeprefix("transformer."): value for name, value in weights.items()}
    save_file(short, model / "model.safetensors", {"format": "pt"})
    workspace, name = known
    assert edited(workspace, name, tmp_path / "new").state is EditState.RECEIPTED


def test_nothing_is_unpickled_run_or_fetched(
    known: tuple[Workspace, str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    trap = f"open({str(tmp_path / 'sprung')!r}, 'w').close()"
    for file in ("modeling_own.py", "tokenization_own.py"):
        (model / file).write_text(f"{trap}\nclass Own: pass\n")
    (model / "pytorch_model.bin").write_bytes(f"cbuiltins\nexec\n(V{trap}\ntR.".encode())
    for file, home in (("config.json", "modeling_own.Own"), ("tokenizer_config.json", "tokenization_own.Own")):
        said = json.loads((model / file).read_bytes())
        auto = {"AutoModelForCausalLM": home, "AutoConfig": home, "AutoTokenizer": [home, home]}
        (model / file).write_text(json.dumps({**said, "auto_map": auto, "attn_implementation": "somebody/kernel"}))

    def no_network(*_: object) -> None:
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    workspace, name = known
    edited(workspace, name, tmp_path / "new")
    assert not (tmp_path / "sprung").exists()
    left = {path.name for path in model.iterdir()} - {path.name for path in (tmp_path / "new").iterdir()}
    assert left == {"modeling_own.py", "tokenization_own.py", "pytorch_model.bin"}


# --- what is refused before anything is recorded -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"editor": "ike"}, ConfigurationError, "its edit is a hook, which cannot be written into a folder"),
        ({"editor": "serac"}, ConfigurationError, "its edit is a hook"),
        ({"editor": "mend"}, ConfigurationError, "learns from lessons"),
        ({"editor": "kn"}, ConfigurationError, "has to be told the old answers"),
        ({"editor": "roem"}, ConfigurationError, "did you mean 'rome'"),
        ({"editor_options": {"steps": "many"}}, ConfigurationError, "'steps' of ft-m must be a whole number"),
        ({"editor_options": {"speed": 1}}, ConfigurationError, "has no option 'speed'"),
        ({"editor_options": {"step": 1}}, ConfigurationError, "has no option 'step'; did you mean 'steps'"),
        ({"editor": "rome", "editor_options": {"search": {"speed": 1}}}, ConfigurationError, "search of rome has no"),
        ({"editor": "rome", "editor_options": {"search": 3}}, ConfigurationError, "must be an object of options"),
        ({"editor_options": {"steps": 0}}, InputError, "must be positive"),
        ({"model": "art-0"}, UnknownIdError, "knows no language model 'art-0', and there are art-"),
        ({"texts": []}, InputError, "no texts are given"),
        ({"texts": "one text"}, InputError, "texts are a list of texts"),
        ({"facts": []}, InputError, "give at least one fact"),
        ({"facts": [fact(), fact()]}, InputError, "two facts have the prompt"),
        ({"facts": [("a", "b", "c")]}, InputError, "a fact is an unlearn.facts.Fact"),
    ],
)
def test_mistakes_change_nothing(
    known: tuple[Workspace, str], tmp_path: Path, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    workspace, name = known
    before = raw(tmp_path)
    given: dict[str, Any] = {
        "facts": [fact()],
        "model": name,
        "output": tmp_path / "new",
        "texts": TEXTS,
        "editor": "ft-m",
        **changes,
    }
    with pytest.raises(error, match=said):
        workspace.edit_facts(**given)
    assert workspace.edits() == []
    assert {path for path in raw(tmp_path) if "ledger" not in path} == {path for path in before if "ledger" not in path}


def test_a_prompt_names_its_subject() -> None:
    with pytest.raises(InputError, match="the subject 'Bob' is not in the prompt 'Ada lives in'"):
        Fact("Ada lives in", "Bob", "Paris")
    for parts in (("", "", "x"), ("Ada", "Ada", " "), ("Ada", "Ada", "x", ("",))):
        with pytest.raises(InputError, match="is empty"):
            Fact(*parts)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="UTF-8"):
        Fact("Ada \ud800", "Ada", "x")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ada lives in|Ada|Paris", Fact("Ada lives in", "Ada", "Paris")),
        (
            " Ada || Bob lives in | Ada | Paris | where is Ada?",
            Fact("Ada | Bob lives in", "Ada", "Paris", ("where is Ada?",)),
        ),
        ("a|||a|b", Fact("a|", "a", "b")),
    ],
)
def test_facts_are_read(text: str, found: Fact) -> None:
    assert parse_fact(text) == found
    with pytest.raises(InputError, match=r"is not PROMPT\|SUBJECT\|NEW"):
        parse_fact("Ada lives in|Ada")


@pytest.mark.parametrize("where", ["taken", "run/inside", "taken/../run/inside", "lm/inside", "nowhere/new"])
def test_an_output_that_cannot_be(known: tuple[Workspace, str], tmp_path: Path, where: str) -> None:
    workspace, name = known
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match=r"already|lies in|is no folder"):
        edited(workspace, name, tmp_path / where)
    assert workspace.edits() == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lm: (lm / "tokenizer.json").unlink(), "tokenizer.json cannot be read"),
        (lambda lm: (lm / "config.json").write_text("[]"), "holds no JSON object"),
        (lambda lm: (lm / "config.json").write_text("{}"), "names no model_type"),
        (lambda lm: (lm / "config.json").write_text("not json"), "is no JSON"),
        (lambda lm: (lm / "model.safetensors").rename(lm / "pytorch_model.bin"), "nothing is unpickled here"),
        (lambda lm: (lm / "model.safetensors").write_bytes(b"\xff" * 64), "no safetensors file"),
        (lambda lm: (lm / "adapter_config.json").write_text("{}"), "holds an adapter"),
        (lambda lm: shutil.rmtree(lm), "is no folder"),
    ],
)
def test_a_folder_that_is_no_model(
    known: tuple[Workspace, str], model: Path, tmp_path: Path, spoil: Any, said: str
) -> None:
    workspace, name = known
    spoil(model)
    with pytest.raises(InputError, match=said):
        workspace.register("other", LANGUAGE_MODEL, str(model))
    with pytest.raises(InputError, match=said):
        edited(workspace, name, tmp_path / "new")
    assert workspace.edits() == []
    assert len(workspace.artefacts()) == 1


# --- what ends as not applied ------------------------------------------------------------------------------------


def _not_applied(known: tuple[Workspace, str], tmp_path: Path, code: str, said: str, **changes: Any) -> None:
    workspace, name = known
    lm = raw(tmp_path / "lm")
    with pytest.raises(NotAppliedError, match=said) as found:
        edited(workspace, name, tmp_path / "new", **changes)
    assert str(found.value).endswith("the model is as it was")
    (request,) = workspace.edits()
    assert (request.state, request.failure, request.guarantee) == (EditState.NOT_APPLIED, NOT_MADE[code], None)
    assert raw(tmp_path / "lm") == lm
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lm", "run"]
    assert [item.tainted_by for item in workspace.artefacts()] == [()]
    assert workspace.receipts(request.id) == []
    assert workspace._site.ledger.edits_pending() == []
    assert list((workspace.path / "edits").iterdir()) == []
    told = b"".join(raw(workspace.path).values())
    assert fact().prompt.encode() not in told
    assert workspace._site.ledger.operation() == ""


def test_an_answer_that_is_not_given(known: tuple[Workspace, str], tmp_path: Path) -> None:
    few = {**OPTIONS, "steps": 1, "learning_rate": 1e-6}
    _not_applied(known, tmp_path, "unreliable", "it gives 0 of 1.: try other options", editor_options=few)


def test_a_model_that_would_be_destroyed(known: tuple[Workspace, str], model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    from unlearn.language.requested import load

    weights = load_file(model / "model.safetensors")
    weights["transformer.ln_f.weight"] *= 30  # so that it is certain of what it says
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    loaded, tokenizer = load(model)
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"][:, :1]
    for _ in range(12):
        ids = torch.cat([ids, loaded(ids).logits[:, -1:].argmax(-1)], 1)
    much = {**OPTIONS, "learning_rate": 1e3, "box": 1e6}
    said = "would destroy the model: its perplexity"
    _not_applied(known, tmp_path, "destroyed", said, editor_options=much, texts=[tokenizer.decode(ids[0])])


def test_logits_that_are_not_finite(known: tuple[Workspace, str], model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["transformer.ln_f.weight"][:] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    _not_applied(known, tmp_path, "not finite", "logits are not finite")


def test_an_architecture_that_is_not_known(known: tuple[Workspace, str], model: Path, tmp_path: Path) -> None:
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    _not_applied(known, tmp_path, "no model", "is a bert, and there are gpt2")


def test_weights_that_are_missing(known: tuple[Workspace, str], model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(model / "model.safetensors")
    del weights["transformer.h.0.mlp.c_fc.weight"]
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    _not_applied(known, tmp_path, "no model", "lacks weights")


def test_a_layer_that_is_not_there(known: tuple[Workspace, str], tmp_path: Path) -> None:
    _not_applied(known, tmp_path, "editor", "layer 7 does not exist", editor_options={**OPTIONS, "layer": 7})


def test_a_worker_that_fails(known: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearn.errors import CallError

    def lost(self: Any, *_: Any) -> None:
        raise CallError("unlearn.language.requested:make, item 0 failed: out of memory\ntraceback", 0, "traceback")

    monkeypatch.setattr(Here, "perform", lost)
    _not_applied(known, tmp_path, "failed", r"the worker that made it failed \(out of memory\)")


# --- durability --------------------------------------------------------------------------------------------------


class _Stop(BaseException):
    """Stands for a crash."""


def _stopped(known: tuple[Workspace, str], tmp_path: Path, where: str, patch: pytest.MonkeyPatch) -> Path:
    """Have an edit end at a point, as whoever crashes does: without clearing up."""
    workspace, name = known

    def stop(*_: Any, **__: Any) -> Any:
        raise _Stop

    with patch.context() as patched:
        patched.setattr("unlearn.editing._remove", lambda _request: None)
        patched.setattr("unlearn.ledger.ledger.Ledger.end_operation", lambda _self: None)
        patched.setattr(where, stop)
        with pytest.raises(_Stop):
            edited(workspace, name, tmp_path / "new", idempotency_key="case 1")
    workspace.close()
    return workspace.path


@pytest.mark.parametrize(
    "where",
    [
        "unlearn.ledger.ledger.Ledger.begin_operation",  # after the request is durable
        pytest.param("unlearn.ledger.ledger.Ledger.check_writer", marks=pytest.mark.slow),  # the folder is written
        "unlearn.editing.Artefact",  # the folder has its name
        pytest.param("unlearn.ledger.ledger.Ledger.finish_edit", marks=pytest.mark.slow),
    ],
)
def test_a_crash_before_the_transaction_leaves_a_request_that_waits(
    known: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = _stopped(known, tmp_path, where, monkeypatch)
    with closing(Workspace.open(path)) as workspace:
        (request,) = workspace.edits()
        assert request.state is EditState.SUBMITTED
        assert sorted(item.name for item in tmp_path.iterdir()) == ["lm", "run"]  # what nobody noted is gone
        told = b"".join(raw(path).values())
        assert fact().prompt.encode() not in told
        workspace.forget(record_ids=names([2]))  # keeps nobody from being forgotten
        assert workspace.edit(request.id).state is EditState.SUBMITTED
        workspace.process()
        assert workspace.edit(request.id).state is EditState.RECEIPTED
        again = edited(workspace, request.artefact, tmp_path / "new", idempotency_key="case 1")
        assert (again.id, again.opening) == (request.id, None)
        assert unlearn.verify_edit(
            workspace.receipt(request.id), workspace.public_key, workspace=workspace, model=tmp_path / "new"
        )


@pytest.mark.parametrize("where", ["unlearn.editing.end_keys", "unlearn.workspace.issue_due"])
def test_a_crash_after_it_leaves_the_rest_to_whoever_opens_it(
    known: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "unlearn.editing.end_keys":
        calls = iter([None, _Stop])  # the first is of the acceptance

        def stop(site: Any) -> None:
            if next(calls) is _Stop:
                raise _Stop

        monkeypatch.setattr(where, stop)
    else:
        monkeypatch.setattr(where, lambda _site: (_ for _ in ()).throw(_Stop()))
    workspace, name = known
    with pytest.raises(_Stop):
        edited(workspace, name, tmp_path / "new")
    workspace.close()
    monkeypatch.undo()
    with closing(Workspace.open(workspace.path)) as opened:
        (request,) = opened.edits()
        assert request.state is EditState.RECEIPTED
        assert list((opened.path / "edits").iterdir()) == []
        assert unlearn.verify_edit(
            opened.receipt(request.id), opened.public_key, workspace=opened, model=tmp_path / "new"
        )


def test_somebody_elses_folder_is_left_alone(
    known: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _stopped(known, tmp_path, "unlearn.ledger.ledger.Ledger.begin_operation", monkeypatch)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "diary").write_text("mine")
    with closing(Workspace.open(path)) as workspace:
        workspace.process()
        (request,) = workspace.edits()
    assert request.failure == NOT_MADE["there already"]
    assert (tmp_path / "new" / "diary").read_text() == "mine"


def test_a_model_that_changed_meanwhile(
    known: tuple[Workspace, str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _stopped(known, tmp_path, "unlearn.ledger.ledger.Ledger.begin_operation", monkeypatch)
    _flip(model / "model.safetensors")
    with closing(Workspace.open(path)) as workspace:
        workspace.process()
        assert [item.failure for item in workspace.edits()] == [NOT_MADE["changed"]]


def test_a_model_that_was_retired_meanwhile(
    known: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _stopped(known, tmp_path, "unlearn.ledger.ledger.Ledger.begin_operation", monkeypatch)
    with closing(Workspace.open(path)) as workspace:
        workspace.retire(known[1])
        workspace.process()
        assert [item.failure for item in workspace.edits()] == [NOT_MADE["retired"]]
        with pytest.raises(UnknownIdError, match="there is none"):
            edited(workspace, known[1], tmp_path / "new")


def test_a_lost_key_keeps_the_request_waiting(
    known: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _stopped(known, tmp_path, "unlearn.ledger.ledger.Ledger.begin_operation", monkeypatch)
    (key,) = (path / "edits").glob("*.key")
    key.rename(tmp_path / "kept")
    with closing(Workspace.open(path)) as workspace:
        with pytest.raises(DamageError, match="cannot be decrypted"):
            workspace.process()
        other = edited(workspace, known[1], tmp_path / "other", fact(3))  # which is told of its own alone
        assert (other.state, other.opening is None) == (EditState.RECEIPTED, False)
        (tmp_path / "kept").rename(key)
        workspace.process()
        assert [item.state for item in workspace.edits()] == [EditState.RECEIPTED] * 2


@pytest.mark.parametrize(
    "where", [pytest.param("pathlib.Path.rename", marks=pytest.mark.slow), "unlearn.language.requested.copy_changed"]
)
def test_a_disk_that_refuses_leaves_the_request_waiting(
    known: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    workspace, name = known
    with monkeypatch.context() as patch:
        patch.setattr(where, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageError, match=r"the edit is durable.*run `unlearn process`"):
            edited(workspace, name, tmp_path / "new")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["lm", "run"]
    workspace.process()
    assert [item.state for item in workspace.edits()] == [EditState.RECEIPTED]


def test_a_key_stands_for_one_request(made: tuple[Path, EditRequest, str]) -> None:
    home, done, _ = made
    with closing(Workspace.open(home / "run")) as workspace:
        first = edited(workspace, str(done.made), home / "other", fact(4), idempotency_key="case 7")
        again = edited(workspace, str(done.made), home / "other", fact(4), idempotency_key="case 7")
        assert (again.id, again.opening) == (first.id, None)
        assert first.opening is not None
        for changes in ({"texts": TEXTS[1:]}, {"reason": "another"}, {"editor_options": {}}):
            with pytest.raises(IdempotencyError, match="'case 7' was used for another request"):
                edited(workspace, str(done.made), home / "other", fact(4), idempotency_key="case 7", **changes)
        for call in (workspace.forget, workspace.submit):
            with pytest.raises(IdempotencyError, match="'case 7' was used for another request"):
                call(record_ids=names([1]), idempotency_key="case 7")
        workspace.forget(record_ids=names([1]), idempotency_key="case 8")
        with pytest.raises(IdempotencyError, match="'case 8' was used for another request"):
            edited(workspace, str(done.made), home / "another", fact(4), idempotency_key="case 8")
        assert len(workspace.edits()) == 2


def test_requests_to_edit_move_along_one_table() -> None:
    for before in EditState:
        for after in EditState:
            if after in TRANSITIONS[before]:
                check_move(before, after)
            else:
                with pytest.raises(unlearn.UnlearnError, match="cannot move from"):
                    check_move(before, after)
    assert {state for state in EditState if state.is_terminal} == {EditState.RECEIPTED, EditState.NOT_APPLIED}


def test_a_digest_is_of_content(model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    before = folder_digest(model)
    weights = load_file(model / "model.safetensors")
    half = dict(list(weights.items())[::2])
    rest = {name: value for name, value in weights.items() if name not in half}
    for number, part in enumerate((rest, half)):
        save_file(part, model / f"part-{number}.safetensors", {"format": "pt", "other": "words"})
    index = {name: f"part-{int(name in half)}.safetensors" for name in weights}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (model / "model.safetensors").unlink()
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps(dict(reversed(config.items()))))
    assert folder_digest(model) == before
    weights["transformer.ln_f.bias"][0] += 1
    save_file({name: weights[name] for name in half}, model / "part-1.safetensors", {"format": "pt"})
    save_file({name: weights[name] for name in rest}, model / "part-0.safetensors", {"format": "pt"})
    assert folder_digest(model) != before
