"""Puts this directory on Python's path, so that tests can refer to `user_modules` as a user would."""

from __future__ import annotations

import sys
from pathlib import Path

# Not in a fixture: the test modules import it too, which happens at collection.
sys.path.append(str(Path(__file__).parent))
