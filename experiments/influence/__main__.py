"""`python -m experiments.influence [--quick]`."""

from experiments.influence.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
