"""`python -m experiments.attack_strength_images [--quick]`."""

from experiments.attack_strength_images.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
