"""One target under atheris: `python -m tests.fuzz.harness TARGET CORPUS [OPTIONS]`."""

from __future__ import annotations

import sys

import atheris

# Only this project's code is to guide the search; libraries are slower to run when they are watched.
with atheris.instrument_imports(include=["shards", "unlearn"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz the target named first; never returns."""
    target = TARGETS[sys.argv[1]]
    for seed in target.seeds():
        target.read(seed)  # what is well-formed is read, or the search would begin nowhere
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
