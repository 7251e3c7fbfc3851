"""`python -m experiments.forget_poison [--quick]`."""

from experiments.forget_poison.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
