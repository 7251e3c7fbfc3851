"""A progress bar over record-visits or records, shown on a terminal when there is something to wait for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from shards.interrupts import guarded

ProgressStarter = Callable[[int], Callable[[int, int, int], None]]
"""Given the record-visits to be made, returns what is told of (shard, position, visits made in that step)."""


QUIET: ContextVar[bool] = ContextVar("QUIET", default=False)
"""Whether bars stay away where nobody said whether to show them."""


@guarded
def progress_bar(title: str, *, show: bool | None, unit: str = "record-visits") -> Iterator[ProgressStarter]:
    """A bar that fills as record-visits are made.

    Args:
        title: What is under way.
        show: Whether to show it; None: where standard error is a terminal, unless `QUIET`.
        unit: What is counted.

    Yields:
        What a build calls once it knows how much there is to do.
    """
    wanted = sys.stderr.isatty() and not QUIET.get() if show is None else show
    if not wanted:
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def start(total: int) -> Callable[[int, int, int], None]:
            task = bar.add_task(title, total=total)
            done: dict[tuple[int, int], int] = {}

            def update(shard: int, position: int, visits: int) -> None:
                done[shard, position] = max(visits, done.get((shard, position), 0))
                bar.update(task, completed=sum(done.values()))

            return update

        yield start


def counted(starter: ProgressStarter) -> Callable[[int, int], None]:
    """Fill a bar by what is told of one kind of work: how much is done, and of how much.

    Args:
        starter: From `progress_bar`; called when something is first told, so that no bar stands where nothing is done.

    Returns:
        What is told `(done, total)`.
    """
    bars: list[Callable[[int, int, int], None]] = []

    def update(done: int, total: int) -> None:
        if not bars:
            bars.append(starter(total))
        bars[0](0, 0, done)

    return update


def _silent(total: int) -> Callable[[int, int, int], None]:
    del total

    def ignore(shard: int, position: int, visits: int) -> None:
        del shard, position, visits

    return ignore
