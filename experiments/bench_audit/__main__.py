"""`python -m experiments.bench_audit [--quick]`."""

from experiments.bench_audit.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
