"""The command line: every command parses, makes one call and prints."""

from unlearn.cli.app import main

__all__ = ["main"]
