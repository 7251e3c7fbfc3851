"""The program: all commands under one name. Heavy libraries are imported by the commands that use them."""

from __future__ import annotations

from typing import Annotated

import typer

from unlearn.cli import (
    artefacts,
    audit,
    build,
    create,
    demo,
    emulate,
    forget,
    ingest,
    methods,
    plan,
    predict,
    report,
    requests,
    status,
    verify,
)
from unlearn.cli.arguments import find_code_here
from unlearn.cli.failure import Commands

app = typer.Typer(
    name="unlearn",
    cls=Commands,
    help="Train models that can forget: at once, exactly, and so that it can be checked.",
    epilog="Example: unlearn demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _common(
    *,
    debug: Annotated[bool, typer.Option("--debug", envvar="UNLEARN_DEBUG", help="Show tracebacks of errors.")] = False,
) -> None:
    """Settings of every command."""
    del debug  # read by whoever reports the failure
    find_code_here()


_COMMANDS = (
    demo,
    create,
    ingest,
    build,
    forget,
    requests,
    status,
    predict,
    verify,
    audit,
    report,
    artefacts,
    plan,
    methods,
    emulate,
)
for module in _COMMANDS:
    module.register(app)


def main() -> None:
    """Run the command line; never returns."""
    app(prog_name="unlearn")
