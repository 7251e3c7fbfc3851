"""Look for known weaknesses in installed packages, with pip-audit; `make advisories` runs it.

A weakness that is known ends with status 1, unless pyproject.toml says under `[tool.advisories.ignore]` why it does not
concern us. A service that does not answer, or knows none of the packages, is said to have told nothing, with status 0:
that is no reason to stop, and no clean bill either.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 600
"""How long the whole audit may take."""


def judge(said: str, ignored: Mapping[str, str]) -> tuple[list[str], int]:
    """What to print of an audit, and the status to end with.

    Args:
        said: What pip-audit wrote as JSON; empty or cut off if it came to nothing.
        ignored: Name of a weakness, or another name of it, to the reason why it does not concern us.

    Returns:
        Lines, and 1 if there is a weakness that does.
    """
    try:
        packages: list[dict[str, Any]] = json.loads(said)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return ["advisories: NOT LOOKED AT: the service could not be asked (see above)"], 0
    audited = [item for item in packages if "skip_reason" not in item]
    lines, status, seen = [], 0, set()
    for item in audited:
        for found in item["vulns"]:
            names = {found["id"], *found.get("aliases", ())}
            seen |= names
            known = sorted(names & ignored.keys())
            fixed = ", ".join(found.get("fix_versions", ())) or "no version"
            line = f"{item['name']} {item['version']}: {found['id']}, fixed in {fixed}"
            lines.append(f"{line}; ignored: {ignored[known[0]]}" if known else f"{line}; KNOWN WEAKNESS")
            status = status if known else 1
    lines += [f"{name} is ignored and not found any more: take it out" for name in sorted(ignored.keys() - seen)]
    if not audited:
        return ["advisories: NOT LOOKED AT: the service knows none of the packages"], 0
    left = len(packages) - len(audited)
    lines.append(
        f"advisories: {len(audited)} packages looked up" + (f", {left} unknown to the service" if left else "")
    )
    return lines, status


def main() -> int:
    """Run pip-audit and judge it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        ignored = tomllib.load(file).get("tool", {}).get("advisories", {}).get("ignore", {})
    command = [str(Path(sys.executable).with_name("pip-audit")), "--format", "json", "--progress-spinner", "off"]
    try:
        # Its warnings go where ours go; only what it found is read.
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=SECONDS).stdout
    except subprocess.TimeoutExpired:
        said = ""
    lines, status = judge(said, ignored)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
