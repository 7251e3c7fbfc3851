"""`python -m experiments.audit_exactness [--quick]`."""

from experiments.audit_exactness.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
