"""`python -m experiments.adapters [--quick]`."""

from experiments.adapters.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
