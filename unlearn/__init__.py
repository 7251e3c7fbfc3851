"""Make models forget: sharded training, deletion requests, proofs and audits."""

from unlearn.errors import UnlearnError
from unlearn.workspace import Workspace

__all__ = ["UnlearnError", "Workspace"]
