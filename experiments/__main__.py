"""`python -m experiments [--full] [NAME …]`: run experiments one after another, and go on after a failure."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.index import Experiment, experiments

ROOT = Path(__file__).parents[1]


def chosen(found: Sequence[Experiment], names: Sequence[str], *, full: bool) -> list[tuple[str, str]]:
    """What to run.

    Args:
        found: All experiments.
        names: Those that are wanted; none: all that have a quick form, or with `full`, a result.
        full: As published; otherwise a fraction.

    Returns:
        Name and command of each.

    Raises:
        ValueError: If there is no experiment of a name, or none of its commands does what is wanted.
    """
    known = {item.name: item for item in found}
    for name in names:
        if name not in known:
            raise ValueError(f"there is no experiment {name!r}: choose from {', '.join(known)}")
    wanted = (
        [known[name] for name in names] if names else [item for item in found if item.result is not None or not full]
    )
    pairs = [(item.name, item.command if full else item.quick or "") for item in wanted]
    lacking = [name for name, command in pairs if not command.startswith("python ")]
    if names and lacking:
        raise ValueError(f"{', '.join(lacking)}: no {'' if full else 'quick '}form to run from here; see its README")
    return [pair for pair in pairs if pair[0] not in lacking]


def missing(experiment: Experiment, data: Path) -> list[str]:
    """Data that it needs and that is not there."""
    return [name for name in experiment.data if not (data / name).exists()]


def main() -> int:
    """Parse the command line and run.

    Returns:
        Exit status: 1 if one failed.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments", description="Run experiments one after another.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; default: all that have a quick form")
    parser.add_argument("--full", action="store_true", help="as published, which overwrites result.json; hours for all")
    given = parser.parse_args()
    found = experiments()
    try:
        work = chosen(found, given.names, full=given.full)
    except ValueError as error:
        parser.error(str(error))
    data = Path(os.environ.get("UNLEARN_DATA", ROOT.parent / "shared" / "data"))
    needs = {item.name: missing(item, data) for item in found}
    failed = [
        name for number, (name, command) in enumerate(work, 1) if not _run(number, len(work), name, command, needs)
    ]
    print(f"{len(work) - len(failed)} of {len(work)} ended well" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _run(number: int, of: int, name: str, command: str, needs: dict[str, list[str]]) -> bool:
    """Run one; whether it ended well, or was left out for lack of data."""
    if needs[name]:
        print(f"[{number}/{of}] {name}: left out, without UNLEARN_DATA/{', '.join(needs[name])}", flush=True)
        return True
    print(f"[{number}/{of}] {name}: {command}", flush=True)
    began = time.monotonic()
    status = subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, check=False).returncode
    how = "done" if status == 0 else f"FAILED with status {status}"
    print(f"[{number}/{of}] {name}: {how} after {time.monotonic() - began:.0f} s", flush=True)
    return status == 0


if __name__ == "__main__":
    raise SystemExit(main())
