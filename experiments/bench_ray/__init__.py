"""What Ray costs beside the local executor, and what a second worker gains."""
