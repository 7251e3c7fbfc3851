"""`python -m experiments.attack_calibration [--quick]`."""

from experiments.attack_calibration.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
