"""How much the ledger carries: requests at once, subjects in one request, events in one log."""
