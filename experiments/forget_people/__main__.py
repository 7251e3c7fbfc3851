"""`python -m experiments.forget_people [--quick]`."""

from experiments.forget_people.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
