"""How strong are the attacks? See README.md."""
