"""`python -m experiments.frozen_heads [--quick]`."""

from experiments.frozen_heads.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
