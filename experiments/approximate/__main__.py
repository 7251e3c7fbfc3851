"""`python -m experiments.approximate [--quick] [--part PART] [--minutes N] [--report]`."""

from experiments.approximate.run import main

if __name__ == "__main__":
    main()
