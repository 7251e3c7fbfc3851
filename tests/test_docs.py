"""The documentation is run, not believed: guides step by step, commands against the program, names against the code."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.documents import blocks, commands, follow, run
from unlearn.cli.app import app
from unlearn.docs.commands import reference
from unlearn.docs.hooks import made, on_page_markdown

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "unlearn" / "docs" / "pages"
GUIDES = sorted((PAGES / "guides").glob("*.md"))
QUICK = {"extend"}
"""Guides that take seconds; the others train more, and are run by `make test-slow`."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


@pytest.mark.parametrize(
    "page",
    [pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in GUIDES],
)
def test_guide_runs(page: Path, folder: Path) -> None:
    assert len(blocks(page)) >= 4
    follow(page, {"__name__": "guide"})


@pytest.mark.slow
def test_start_page_runs(folder: Path) -> None:
    (code,) = [block.code for block in blocks(PAGES / "index.md") if block.language == "python"]
    exec(compile(code, "index.md", "exec"), {"__name__": "guide"})


def test_quick_guides_are_guides() -> None:
    assert {path.stem for path in GUIDES} > QUICK


# --- commands ----------------------------------------------------------------------------------------------------


def command_list() -> list[tuple[str, Any]]:
    """Every command of the program by its name, the program itself among them."""
    group: Any = typer.main.get_command(app)
    return [("", group), *group.commands.items()]


@pytest.mark.parametrize("name", [name for name, _ in command_list()])
def test_the_reference_says_what_help_says(name: str) -> None:
    """Every option that `--help` shows is in the section, and no other."""
    page = reference(app)
    title = f"\n## `unlearn {name}`\n" if name else "\n## `unlearn`\n"
    assert page.count(title) == 1
    section = page.partition(title)[2].partition("\n## ")[0].partition("\nExample")[0]
    shown = run([name, "--help"] if name else ["--help"]).stdout
    # Names of options begin their line; help texts may speak of others.
    wanted = set(re.findall(r"^│ (?:\*  |   )?(--[a-z-]+)", shown, re.MULTILINE))
    assert wanted
    first = " ".join(re.findall(r"^\| `([^`]*)` \|", section, re.MULTILINE))
    assert set(re.findall(r"--[a-z-]+", first)) == wanted


@pytest.mark.parametrize(("name", "command"), command_list(), ids=[name or "unlearn" for name, _ in command_list()])
def test_everything_has_help_and_every_command_an_example(name: str, command: Any) -> None:
    assert command.help
    assert "Example" in command.epilog
    assert f"unlearn {name}".strip() in command.epilog
    for item in command.params:
        assert item.help, f"{name}: {item.opts} has no help"


def test_examples_name_options_there_are() -> None:
    options = {name: {text for item in command.params for text in item.opts} for name, command in command_list()}
    examples = [arguments for block in blocks(reference(app)) for arguments in commands(block.code)]
    assert len(examples) >= len(options)
    for name, *arguments in examples:
        used = {text.partition("=")[0] for text in arguments if re.match(r"--[a-z]", text)}
        assert used <= options[name] | {"--help"}, (name, arguments)


# --- pages -------------------------------------------------------------------------------------------------------


def test_pages_are_made_of_what_there_is() -> None:
    pages = made()
    records = {path.name for path in (ROOT / "unlearn" / "decisions").glob("0*.md")}
    assert {f"decisions/{name}" for name in records} < set(pages)
    assert all(f"({name})" in pages["decisions/index.md"] for name in records)
    assert "forget_exact" in pages["experiments.md"]
    limits = on_page_markdown((PAGES / "limits.md").read_text(encoding="utf-8"))
    assert "## What is guaranteed" in limits
    assert "## What is not" in limits
    assert "](unlearn/" not in limits


def test_a_section_that_is_gone_is_an_error() -> None:
    with pytest.raises(LookupError, match="no section 'Nothing'"):
        on_page_markdown("<!-- README: Nothing -->")


def test_every_public_name_has_its_place() -> None:
    """In the reference of names: all that a package lists, wherever it is defined."""
    pages = "\n".join(on_page_markdown(path.read_text(encoding="utf-8")) for path in (PAGES / "api").glob("*.md"))
    documented = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    for package in ("unlearn", "unlearn.audit", "unlearn.methods", "unlearn.language", "unlearn.audit.metrics"):
        module = importlib.import_module(package)
        for name in module.__all__:
            found = getattr(module, name)
            home = getattr(found, "__module__", None) or package
            if not home.startswith(("unlearn", "shards")):
                continue  # a mapping: its type's home is not its own
            assert {home, f"{home}.{name}"} & documented, f"{package}.{name}, which is in {home}"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs mkdocs: pip install '.[docs]'")
def test_it_builds_without_a_warning_and_reads_without_a_network(tmp_path: Path) -> None:
    """`make docs`, with names that are in no package: what is fetched neither to build nor to read it."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(PAGES.parent / "mkdocs.yml")]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NO_MKDOCS_2_WARNING": "1",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "site")], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//", text), page
        links = re.findall(r"<link[^>]+href=\"?(?:https?:)?//[^>]*", text)
        assert [link for link in links if "canonical" not in link] == [], page
        assert ":::" not in text, page
