"""How strong are the attacks on a small convolutional network? See README.md."""
