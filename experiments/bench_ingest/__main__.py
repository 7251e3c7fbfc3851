"""`python -m experiments.bench_ingest`."""

from experiments.bench_ingest.run import BENCHMARK

if __name__ == "__main__":
    BENCHMARK.main()
