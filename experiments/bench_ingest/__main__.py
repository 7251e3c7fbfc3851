"""`python -m experiments.bench_ingest`."""

from experiments.bench_ingest.run import main

main()
