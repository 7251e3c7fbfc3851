"""Audits of deletions and of planted failures, with real people who have several records each."""
