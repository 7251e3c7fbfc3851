"""Let a coverage-guided fuzzer look for input that breaks a reader: `python -m tests.fuzz [TARGET ...] [-- OPTIONS]`.

Options are libFuzzer's, such as `-max_total_time=600`; without, 20 seconds a target. What breaks a target is written
to a file that the last lines name.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import TARGETS

OPTIONS = ("-max_total_time=20", "-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1")


def main() -> int:
    """Fuzz the targets, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split(":")[0])
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="what to fuzz; default: everything")
    own, given = sys.argv[1:], []
    if "--" in own:
        own, given = own[: own.index("--")], own[own.index("--") + 1 :]
    broken = []
    for name in parser.parse_args(own).targets or TARGETS:
        print(f"{name} ...", flush=True)
        if fuzz(name, given) != 0:
            broken.append(name)
    print(f"broken: {', '.join(broken)}" if broken else "nothing broke")
    return 1 if broken else 0


def fuzz(name: str, options: list[str]) -> int:
    """Fuzz one target in a process of its own; its exit status, 0 if nothing broke.

    Args:
        name: The target.
        options: Of libFuzzer, beside those of the project.
    """
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(TARGETS[name].seeds()):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        command = [sys.executable, "-m", "tests.fuzz.harness", name, corpus, *OPTIONS, *options]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
