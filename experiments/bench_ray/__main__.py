"""`python -m experiments.bench_ray`."""

from experiments.bench_ray.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
