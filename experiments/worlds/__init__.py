"""Worlds of facts, small enough that a language model learns all of them in minutes on two cores."""
