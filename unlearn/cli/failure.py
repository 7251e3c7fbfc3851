"""How commands end when they cannot do what was asked: one line on standard error and an exit status."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from shards.errors import TrainingError, UnlearnError
from unlearn.cli.output import printable

FAILED = 1
INTERRUPTED = 130

_INTERRUPTED = {
    "train": "what was built is kept; run the same command again",
    "recover": "what was built is kept; run the same command again",
    "forget": "a request that was noted will be finished; `unlearn status` lists the requests",
    "demo": "what it compares with is removed; the workspace it had made stays",
}

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""Of whichever click typer is built on: some versions bring their own."""


class Commands(TyperGroup):
    """The group of all commands, which reports their failures."""

    def invoke(self, ctx: Any) -> object:
        """Run the command; turn what this program raises on purpose into a line and an exit status.

        Args:
            ctx: The parsed command line.

        Returns:
            What the command returns.

        Raises:
            Exit: With the status of the failure.
            UsageError: If the command line is wrong.
            UnlearnError: With `--debug`, as it was raised.
            OSError: Likewise.
            BrokenPipeError: Always: whoever read the output has gone, and typer ends quietly.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except _UsageError as error:
            self._say_where(error, ctx.invoked_subcommand)
            raise
        except (UnlearnError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"error: {printable(one_line(error))}", err=True)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt:
            advice = _INTERRUPTED.get(ctx.invoked_subcommand or "", "nothing is half done; run the same command again")
            typer.echo(f"interrupted: {advice}", err=True)
            raise typer.Exit(INTERRUPTED) from None

    def _say_where(self, error: Any, command: str | None) -> None:
        """Of an option of all commands that was given after one: where it stands."""
        name = getattr(error, "option_name", None)
        if any(name in parameter.opts for parameter in self.params):
            error.message = f"{name} stands before the command: unlearn {name} {command} …"


def one_line(error: Exception) -> str:
    """An error in one line; a worker's traceback is left to `--debug`.

    Args:
        error: The error.

    Returns:
        Its message.
    """
    if isinstance(error, TrainingError):
        first = str(error).partition("\n")[0]
        return f"{first} (what was built before is kept; `unlearn --debug …` shows the worker's traceback)"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}: check the path, and whether you may read and write there"
    return " ".join(str(error).split()) or type(error).__name__
