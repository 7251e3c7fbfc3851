"""`python -m experiments.editing [--quick] [--minutes N] [--report]`."""

from __future__ import annotations

from experiments.editing.run import main

main()
