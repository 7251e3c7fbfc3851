"""The durable log: what was ingested, built, asked to be forgotten, and done about it."""

from unlearn.ledger.ledger import BuiltStep, Erasure, Ledger, Location, NewSlice

__all__ = ["BuiltStep", "Erasure", "Ledger", "Location", "NewSlice"]
