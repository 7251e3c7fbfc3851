"""`python -m experiments.forget_exact [--quick]`."""

from experiments.forget_exact.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
