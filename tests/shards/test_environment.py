"""What decides bits is pinned before libraries load, described, and digested."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from shards.environment import describe, environment_digest, pinned_variables

USER = {"PATH": "/bin", "OMP_NUM_THREADS": "8", "MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "avx2", "HOME": "/h"}
USER["GLIBC_TUNABLES"] = "glibc.cpu.hwcaps=-AVX2"  # decides bits of exp and log


def test_numeric_switches_of_the_user_are_replaced_and_the_rest_is_kept() -> None:
    found = pinned_variables(USER, avx512=False)
    assert found["PATH"] == "/bin"
    assert found["HOME"] == "/h"
    assert found["OMP_NUM_THREADS"] == "1"
    assert found["MKL_CBWR"] == "AVX2,STRICT"
    assert not {"ATEN_CPU_CAPABILITY", "GLIBC_TUNABLES"} & found.keys()


def test_variables_do_not_depend_on_the_users_numeric_switches() -> None:
    plain = {name: USER[name] for name in ("PATH", "HOME")}
    assert pinned_variables(USER, avx512=True) == pinned_variables(plain, avx512=True)


def described(variables: dict[str, str]) -> dict:
    code = "import json; from shards.environment import describe; print(json.dumps(describe(['numpy'])))"
    path = os.pathsep.join(sys.path)
    run = subprocess.run(
        [sys.executable, "-c", code], env={**variables, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


def test_a_worker_describes_itself_alike_each_time_and_notices_other_switches() -> None:
    pinned = pinned_variables(USER, avx512=False)
    first, second = described(pinned), described(pinned)
    other = described({**pinned, "OMP_NUM_THREADS": "2"})
    assert environment_digest(first) == environment_digest(second)
    assert environment_digest(first) != environment_digest(other)


@pytest.mark.parametrize("part", ["python", "libc", "cpu", "switches", "libraries"])
def test_every_part_of_the_description_is_in_the_digest(part: str) -> None:
    found = describe(["numpy"])
    assert environment_digest(found) != environment_digest({**found, part: "other"})
