"""`python -m experiments.bench_ledger`."""

from experiments.bench_ledger.run import main

main()
