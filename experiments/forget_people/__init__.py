"""Forgetting real people: writers of digits, and patients of hospitals."""
