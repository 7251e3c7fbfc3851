"""The program: all commands under one name. Heavy libraries are imported by the commands that use them."""

from __future__ import annotations

import logging
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
from unlearn.cli.output import printable
from unlearn.progress import QUIET

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
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Say nothing that was not asked for: tables, documents and errors remain."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell on standard error what is noted in the log, as it happens.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", envvar="UNLEARN_DEBUG", help="Show tracebacks of errors.")] = False,
) -> None:
    """Settings of every command."""
    del debug  # read by whoever reports the failure
    QUIET.set(quiet)
    _tell(verbose)
    find_code_here()


def _tell(verbose: bool) -> None:
    """Send what the program logs to standard error, or nowhere."""
    logger = logging.getLogger("unlearn")
    for handler in list(logger.handlers):
        if isinstance(handler, _Told):
            logger.removeHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.NOTSET)
    if verbose:
        told = _Told()
        told.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(told)


class _Told(logging.Handler):
    """To standard error as it is when something is told, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(printable(self.format(record)), err=True)


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
