"""Solvers of H x = v, one a file: dense, cached with rank-m changes, and iterative."""

from unlearn.methods.influence.solvers.arnoldi import Arnoldi
from unlearn.methods.influence.solvers.base import (
    DivergedError,
    Inverse,
    SingularCurvatureError,
    Solution,
    Solver,
    residual,
)
from unlearn.methods.influence.solvers.cholesky import Cholesky
from unlearn.methods.influence.solvers.conjugate_gradient import ConjugateGradient
from unlearn.methods.influence.solvers.ekfac import EKFAC
from unlearn.methods.influence.solvers.lissa import LiSSA
from unlearn.methods.influence.solvers.woodbury import CachedInverse, Woodbury

__all__ = [
    "EKFAC",
    "Arnoldi",
    "CachedInverse",
    "Cholesky",
    "ConjugateGradient",
    "DivergedError",
    "Inverse",
    "LiSSA",
    "SingularCurvatureError",
    "Solution",
    "Solver",
    "Woodbury",
    "residual",
]
