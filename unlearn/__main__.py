"""`python -m unlearn`: the command line."""

from __future__ import annotations

from unlearn.cli import main

if __name__ == "__main__":
    main()
