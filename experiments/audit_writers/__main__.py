"""`python -m experiments.audit_writers [--quick]`."""

from experiments.audit_writers.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
