"""`python -m experiments.definitions [--quick]`."""

from experiments.definitions.run import main

if __name__ == "__main__":
    main()
