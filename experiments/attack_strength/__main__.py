"""`python -m experiments.attack_strength [--quick]`."""

from experiments.attack_strength.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
