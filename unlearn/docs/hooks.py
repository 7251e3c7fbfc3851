"""Pages that are made when the documentation is built: commands, decision records, the index of experiments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn.cli.app import app
from unlearn.docs.commands import reference

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "unlearn" / "decisions"

DECISIONS_BEGIN = """# Decisions

Why things are as they are, one page each, in the order in which they were taken. The threat model is
[0011](0011-threat-model.md).

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages.

    Args:
        files: The pages that are written by hand.
        config: Of the documentation.

    Returns:
        All pages.
    """
    from mkdocs.structure.files import File

    for path, content in made().items():
        files.append(File.generated(config, path, content=content))
    return files


def made() -> dict[str, str]:
    """Path to Markdown of every page that is made."""
    records = sorted(DECISIONS.glob("[0-9]*.md"))
    titles = [record.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for record in records]
    index = "\n".join(f"- [{title}]({record.name})" for title, record in zip(titles, records, strict=True))
    pages = {f"decisions/{record.name}": record.read_text(encoding="utf-8") for record in records}
    return {
        **pages,
        "decisions/index.md": DECISIONS_BEGIN + index + "\n",
        "commands.md": reference(app),
        "experiments.md": experiments((ROOT / "experiments" / "README.md").read_text(encoding="utf-8")),
    }


def experiments(index: str) -> str:
    """The index of experiments as a page, on which links into the repository become paths.

    Args:
        index: `experiments/README.md`.

    Returns:
        Markdown.
    """
    return re.sub(r"\[([^\]]+)\]\((?!https?:)([^)]+)\)", r"\1 (`experiments/\2`)", index)


def on_page_markdown(markdown: str, **_context: object) -> str:
    """Let `::: package.*` stand for all modules of a package, and `<!-- README: title -->` for a section of it.

    Args:
        markdown: A page.

    Returns:
        The page with what they stand for.
    """
    markdown = re.sub(r"^::: (\S+)\.\*$", lambda found: modules(found[1]), markdown, flags=re.MULTILINE)
    return re.sub(r"<!-- README: (.*?) -->", lambda found: section(found[1]), markdown)


def modules(package: str) -> str:
    """One line for each public module of a package."""
    files = sorted((ROOT / package.replace(".", "/")).glob("[!_]*.py"))
    return "\n".join(f"::: {package}.{file.stem}" for file in files)


def section(title: str) -> str:
    """A section of the README, on which links into the repository lead to pages of the documentation, or become paths.

    Args:
        title: Of the section.

    Returns:
        Markdown.

    Raises:
        LookupError: If there is no such section.
    """
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", readme, re.DOTALL | re.MULTILINE)
    if found is None:
        raise LookupError(f"README.md has no section {title!r}: name one it has where the page includes it")
    linked = found[0].replace("](unlearn/decisions/", "](decisions/")
    return re.sub(r"\[([^\]]+)\]\((?!https?:|decisions/)([^)]+)\)", r"\1 (`\2`)", linked)
