"""How often audits by attacks refute a model that owes nothing to whom it forgot, and one that does."""
