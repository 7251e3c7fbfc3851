"""`python -m experiments.certified [--quick]`."""

from experiments.certified.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
