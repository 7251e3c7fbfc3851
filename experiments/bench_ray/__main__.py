"""`python -m experiments.bench_ray`."""

from experiments.bench_ray.run import main

if __name__ == "__main__":
    main()
