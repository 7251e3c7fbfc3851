"""`python -m experiments.audit_planted [--quick]`."""

from experiments.audit_planted.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
