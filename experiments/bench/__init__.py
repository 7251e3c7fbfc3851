"""How fast training, forgetting and recovering are, against loops written by hand."""
