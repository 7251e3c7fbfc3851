"""What a model trained on an emulation of the data loses against one trained on the data."""
