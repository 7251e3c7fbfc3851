"""Control while decoding: the model's weights stay, its logits are changed. That is suppression, never removal."""
