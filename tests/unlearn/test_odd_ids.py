"""Ids are text and nothing else: no path, no SQL, no format, no look-alike of another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import unlearn
from shards import slicefile
from tests.unlearn import attacks
from tests.unlearn.helpers import canaries, create, raw
from tests.unlearn.victim import Victim, make_victim
from unlearn import Workspace
from unlearn.cli.app import app
from unlearn.errors import DamageError, InputError, UnknownIdError

ODD = (
    *("../../etc/passwd", "..", ".", "/", "/etc/passwd", "C:\\x", "a/b", "~", "-rf", "--help", "CON", "nul.txt"),
    *("'; DROP TABLE record; --", '" OR 1=1 --', "%s", "%(x)s", "{0}", "${HOME}", "$(id)", "`id`", "a;b", "NULL", "0"),
    *("a", "A", "a ", " a", "a\n", "\na", "a\r\nb", "a\tb", "a\x00b", "a\x00", "\x00", "\x1b[31ma", "a\x07", "a\x7f"),
    *("\u00e9", "e\u0301", "\u0430", "\uff41", "\uff41\u200b", "a\u200b", "\ufeffa", "a\u202eb", "a\u2028b", "a\x85b"),
    *("\ufb01", "fi", "\u00df", "ss", "\U0001f9d1\u200d\U0001f9d1", "\U0001f9d1\U0001f9d1", "\U0010ffff", "\uffff"),
    *("x" * 4096, "\u00e9" * 2048),
)
"""Paths, statements, control characters, and such as look alike or are the same after some normalisation."""

HOPELESS = ("", "\ud800", "a\udfff", "x" * 4097, "x" * 2**20)
"""What is refused."""


def filled(folder: Path, ids: list[str]) -> Workspace:
    workspace = create(folder, n_shards=2)
    workspace.ingest(canaries(range(len(ids))), np.zeros(len(ids), dtype=np.int64), record_ids=ids)
    return workspace


def held(workspace: Workspace) -> list[str]:
    return sorted(name for *_, file in attacks.record_files(workspace.path) for name in slicefile.read(file).record_ids)


def test_odd_ids_are_ids_of_their_own(tmp_path: Path) -> None:
    assert len(set(ODD)) == len(ODD)
    beside = tmp_path / "beside"
    beside.mkdir()
    workspace = filled(beside / "workspace", list(ODD))
    left = sorted(ODD)
    for number, name in enumerate(ODD):
        options = {"subjects": [name]} if number % 2 else {"record_ids": [name]}
        request = workspace.forget(**options, reason=name, idempotency_key=name)
        left.remove(name)
        assert held(workspace) == left
        assert request.n_records == 1
        receipt = workspace.receipt(request.id)
        verified = unlearn.verify(receipt, workspace.public_key, opening=request.opening, **options)
        assert verified.steps[-1].title == "the people and records named"
        with pytest.raises(InputError):
            workspace.ingest(canaries([0]), [0], record_ids=[name])
    workspace.close()
    assert [path.name for path in tmp_path.iterdir()] == ["beside"]
    assert [path.name for path in beside.iterdir()] == ["workspace"]
    long = [name.encode() for name in ODD if len(name.encode()) > 8]
    assert not any(name in str(path).encode() for path in (beside / "workspace").rglob("*") for name in long)
    unlearn.verify(receipt, workspace.public_key, workspace=workspace.path)


@pytest.mark.parametrize("name", HOPELESS, ids=lambda name: f"{len(name)}")
def test_hopeless_ids_are_refused_whole(tmp_path: Path, name: str) -> None:
    workspace = filled(tmp_path / "workspace", ["a"])
    before = raw(workspace.path / "shards")
    with pytest.raises(InputError):
        workspace.ingest(canaries([1]), [0], record_ids=[name])
    for options in ({"record_ids": [name]}, {"subjects": [name]}, {"subjects": ["a", name]}):
        for act in (workspace.forget, workspace.submit):
            with pytest.raises(InputError) as error:
                act(**options)
            assert len(str(error.value)) < 2000
    assert raw(workspace.path / "shards") == before
    assert workspace.requests() == []


@given(ids=st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=6, unique=True), data=st.data())
@settings(max_examples=20)
def test_any_text_names_itself_alone(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: st.DataObject
) -> None:
    workspace = filled(tmp_path_factory.mktemp("ids") / "workspace", ids)
    gone = data.draw(st.sampled_from(ids))
    workspace.forget(record_ids=[gone])
    assert held(workspace) == sorted(set(ids) - {gone})
    workspace.close()


def test_reasons_of_any_size_are_kept_or_refused(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "workspace", ["a", "b"])
    reason, key = "x" * 2**20, "k" * 2**16
    request = workspace.forget(record_ids=["a"], reason=reason, idempotency_key=key)
    assert workspace.status(request.id).reason == reason
    again = workspace.forget(record_ids=["a"], reason=reason, idempotency_key=key)
    assert again.id == request.id


# On the command line


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_file_of_ids_names_every_line_and_nothing_else(tmp_path: Path) -> None:
    names = [name for name in ODD if name == name.strip() and "\n" not in name and "\ufeff" not in name]
    others = ["a", "b"]  # the halves of what is no line's end
    workspace = filled(tmp_path / "workspace", sorted({*names, *others}))
    workspace.close()
    named = [name for name in names if name not in others]
    (tmp_path / "ids.txt").write_text("\ufeff" + "\n".join(named) + "\n\n", encoding="utf-8", newline="")
    status, said = run("forget", str(workspace.path), "--ids-from", str(tmp_path / "ids.txt"))
    assert status == 0, said
    assert held(workspace) == others


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xff\xfe", b"a\xff", b"\x00", b"\xed\xa0\x80", b"x" * 2**20])
def test_a_file_of_no_ids_is_refused(tmp_path: Path, data: bytes) -> None:
    workspace = filled(tmp_path / "workspace", ["a"])
    workspace.close()
    (tmp_path / "ids.txt").write_bytes(data)
    status, said = run("forget", str(workspace.path), "--ids-from", str(tmp_path / "ids.txt"))
    assert status == 1
    assert said.startswith("error: ")
    assert len(said) < 2000
    assert held(workspace) == ["a"]


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "\x1b[2J", "\u202egnp", "\x9b31m", "a\rb", "[bold]x[/bold]"])
def test_no_text_of_somebody_elses_takes_hold_of_the_terminal(tmp_path: Path, text: str) -> None:
    workspace = filled(tmp_path / "workspace", ["a", "b"])
    request = workspace.forget(record_ids=["a"], reason=text, idempotency_key=text)
    workspace.register(text, text, text)
    workspace.forget(record_ids=["b"])
    workspace.close()
    path = str(workspace.path)
    controls = {character for character in text if not character.isprintable()} - {"\n"}
    for arguments in (
        ("status", path),
        ("status", path, request.id),
        ("status", path, text),
        ("receipts", path, text),
        ("artefacts", path),
        ("forget", path, "--record", text),
        ("forget", path, "--record", "b", "--idempotency-key", text),
    ):
        _, said = run(*arguments)
        assert not controls & set(said), f"{arguments}: {said!r}"


# Names that come out of a ledger somebody else made


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return make_victim(tmp_path_factory.mktemp("victim"))


def renamed(path: Path, old: str, new: str) -> None:
    """Call a request something else in every table, and have its receipt be due."""
    with attacks.ledger(path) as c:
        for table, column in (("request", "id"), ("event", "request"), ("evidence", "request"), ("removed", "request")):
            c.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))
        c.execute("DELETE FROM receipt WHERE request = ?", (old,))


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "..", "a/b", "req-x\x00"])
def test_a_request_whose_name_is_a_path_writes_nothing_elsewhere(victim: Victim, tmp_path: Path, name: str) -> None:
    path = victim.copy(tmp_path / "inside")
    new = name.replace("/tmp", str(tmp_path))
    renamed(path, victim.requests[2], new)
    before = sorted(item for item in tmp_path.rglob("*") if path not in item.parents)
    with pytest.raises(DamageError, match="is no name of a request"):
        Workspace.open(path).recover()
    assert sorted(item for item in tmp_path.rglob("*") if path not in item.parents) == before


def test_a_record_file_whose_name_is_a_path_destroys_nothing_elsewhere(victim: Victim, tmp_path: Path) -> None:
    path = victim.copy(tmp_path)
    treasure = tmp_path / "p000000-v0.arrow"
    treasure.write_bytes(attacks.record_files(path)[0][2].read_bytes())
    attacks.execute(path, "UPDATE slice SET file = '../../../../p000000-v0.arrow' WHERE shard = 0 AND position = 0")
    attacks.execute(path, "INSERT INTO erasure VALUES (0, 0)")
    attacks.execute(path, "UPDATE request SET state = 'submitted', forgotten_at = NULL WHERE number = 2")
    before = treasure.read_bytes()
    with pytest.raises(DamageError, match=r"could not be destroyed yet in the record file \.\./"):
        Workspace.open(path).recover()
    assert treasure.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir() if item.is_file()] == [treasure.name]


def test_an_unknown_request_is_unknown_whatever_its_name(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "workspace", ["a"])
    for name in (*ODD, *HOPELESS):
        for ask in (workspace.status, workspace.receipts, workspace.receipt, workspace.edit):
            with pytest.raises(UnknownIdError):
                ask(name)
