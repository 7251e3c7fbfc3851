"""`python -m experiments.bench_ledger`."""

from experiments.bench_ledger.run import main

if __name__ == "__main__":
    main()
