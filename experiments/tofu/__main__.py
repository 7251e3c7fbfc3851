"""`python -m experiments.tofu [--quick]`."""

from __future__ import annotations

from experiments.tofu.run import main

main()
