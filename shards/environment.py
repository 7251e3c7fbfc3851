"""The numeric environment: what decides floating-point bits besides the program.

Libraries choose kernels by CPU, thread count and switches read when they load. So switches are set in the
environment variables of a fresh process (`pinned_variables`), and what that process then finds is described
and digested (`describe`, `environment_digest`). Equal digests mean: the same bits are to be expected.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from shards.digest import Json, digest_json

_NUMERIC_PREFIXES = (
    "ATEN_",
    "BLIS_",
    "DNNL_",
    "GLIBC_",
    "GOTO_",
    "KMP_",
    "MKL_",
    "NPY_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "VECLIB_",
)
"""Variables of these families change numeric behaviour; none is inherited from the user's shell."""


def has_avx512() -> bool:
    """Whether this CPU has the AVX-512 instructions numeric libraries dispatch on."""
    return "avx512f" in _cpuinfo("flags").split()


def pinned_variables(base: Mapping[str, str], *, avx512: bool) -> dict[str, str]:
    """Environment variables of a worker: the user's, with every numeric switch pinned.

    One thread, so that sums do not depend on how work is split. `MKL_CBWR=…,STRICT` makes matrix products
    independent of memory alignment and of the rows beside them; OpenBLAS is told which kernels to use rather
    than left to recognise the CPU's model.

    Args:
        base: Variables to start from, usually `os.environ`.
        avx512: Whether kernels for AVX-512 may be used.

    Returns:
        The variables for the new process.
    """
    kept = {name: value for name, value in base.items() if not name.startswith(_NUMERIC_PREFIXES)}
    threads = ("OMP", "MKL", "OPENBLAS", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR")
    kept.update({f"{family}_NUM_THREADS": "1" for family in threads})
    kept.update(
        {
            "MKL_DYNAMIC": "FALSE",
            "MKL_CBWR": "AVX512,STRICT" if avx512 else "AVX2,STRICT",
            "OMP_DYNAMIC": "FALSE",
            "PYTHONHASHSEED": "0",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        }
    )
    if platform.machine() in {"x86_64", "AMD64"}:
        kept["OPENBLAS_CORETYPE"] = "SkylakeX" if avx512 else "Haswell"
    return kept


def describe(libraries: Iterable[str]) -> dict[str, Json]:
    """Describe the environment of the running process; to be called in a worker.

    Args:
        libraries: Import names of the numeric libraries in use; they are imported.

    Returns:
        JSON: interpreter, platform, C library, CPU vendor and instruction sets, library versions, numeric
        switches and thread counts.
    """
    import numpy as np

    simd = np.show_config(mode="dicts").get("SIMD Extensions", {})
    found: dict[str, Json] = {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": f"{sys.platform}-{platform.machine()}",
        "libc": "-".join(platform.libc_ver()),
        "cpu": {"vendor": _cpuinfo("vendor_id"), "simd": sorted(simd.get("found", []))},
        "linear algebra": _linear_algebra(np.show_config(mode="dicts")),
        "switches": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_NUMERIC_PREFIXES)},
        "libraries": {name: str(importlib.import_module(name).__version__) for name in sorted(libraries)},
    }
    if {"scipy", "sklearn"} & set(found["libraries"]):
        # It brings its own linear algebra.
        import scipy

        found["scipy linear algebra"] = _linear_algebra(scipy.show_config(mode="dicts"))
    if "sklearn" in found["libraries"]:
        # Tables reach estimators through pandas, states through skops.
        found["beside"] = {name: _version(name) for name in ("pandas", "skops")}
    if "torch" in found["libraries"]:
        import torch

        found["torch"] = {
            "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
            "capability": torch.backends.cpu.get_cpu_capability(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        }
    return found


def environment_digest(description: Mapping[str, Json]) -> str:
    """Digest of a described environment, hex."""
    return digest_json("environment", dict(description))


def step_environment(numeric: str, kernel: str, distributions: Mapping[str, str]) -> str:
    """Digest of all that decides bits besides a step's inputs and the user's own code.

    Args:
        numeric: Digest of the worker's numeric environment.
        kernel: The learner's `kernel`.
        distributions: Version of each third-party distribution the user's code imports.

    Returns:
        Hex digest.
    """
    return digest_json("step environment", [numeric, kernel, dict(distributions)])


def described_environment(description: Mapping[str, Json]) -> str:
    """Digest of a step environment that was described.

    Args:
        description: `numeric` (see `describe`), `kernel` and `distributions`.

    Returns:
        The digest that `step_environment` gives.
    """
    numeric = environment_digest(description["numeric"])
    return step_environment(numeric, description["kernel"], description["distributions"])


def _linear_algebra(config: Mapping[str, Json]) -> dict[str, Json]:
    """Name and version of the linear algebra libraries a package was built with."""
    found = config.get("Build Dependencies", {})
    return {part: [found.get(part, {}).get(key) for key in ("name", "version")] for part in ("blas", "lapack")}


def _version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpuinfo(name: str) -> str:
    """First value of a field of /proc/cpuinfo; empty where there is no such file or field."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    for line in path.read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
