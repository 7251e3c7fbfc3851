"""What requests that depend on the published model do to sharded training, and what helps."""
