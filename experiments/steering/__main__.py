"""`python -m experiments.steering [--quick]`."""

from __future__ import annotations

from experiments.steering.run import main

main()
