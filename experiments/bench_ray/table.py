"""The figures of the README, from `result.json`."""

from __future__ import annotations

from experiments.readme import listed as tables

__all__ = ["tables"]
