"""`python -m experiments.emulation [--quick]`."""

from experiments.emulation.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
