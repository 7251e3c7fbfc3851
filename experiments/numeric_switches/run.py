"""Time one minibatch under different numeric switches, and compare the bits. See README.md."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from shards.environment import has_avx512

HERE = Path(__file__).parent
REPEATS = 5
CBWR = [None, "COMPATIBLE", "AVX2", "AVX2,STRICT", *(["AVX512", "AVX512,STRICT"] if has_avx512() else [])]
CAPABILITIES = [None, "avx2"]

LOOP = """
import hashlib, time, torch
torch.set_num_threads(1); torch.use_deterministic_algorithms(True); torch.manual_seed(0)
x = (torch.rand(2500, 600) < 0.17).float(); y = torch.randint(0, 2, (2500,))
net = torch.nn.Sequential(torch.nn.Linear(600, 128), torch.nn.Tanh(), torch.nn.Linear(128, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
started, steps = time.perf_counter(), 0
for _ in range(4):
    for i in range(0, 2500, 16):
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x[i : i + 16]), y[i : i + 16]).backward()
        optimizer.step(); steps += 1
seconds = time.perf_counter() - started
print(seconds / steps * 1e3, hashlib.sha256(net[0].weight.detach().numpy().tobytes()).hexdigest())
"""


def measure(cbwr: str | None, capability: str | None) -> tuple[float, str]:
    """Milliseconds per minibatch and digest of the weights, in a fresh process."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MKL_", "ATEN_", "OMP_"))}
    variables |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    variables |= {"MKL_CBWR": cbwr} if cbwr else {}
    variables |= {"ATEN_CPU_CAPABILITY": capability} if capability else {}
    run = subprocess.run([sys.executable, "-c", LOOP], env=variables, capture_output=True, text=True, check=True)
    milliseconds, digest = run.stdout.split()
    return float(milliseconds), digest


def main() -> None:
    """Measure every setting, interleaved, and write the result."""
    settings = [(cbwr, capability) for cbwr in CBWR for capability in CAPABILITIES]
    times: dict[tuple[str | None, str | None], list[float]] = {setting: [] for setting in settings}
    digests: dict[tuple[str | None, str | None], set[str]] = {setting: set() for setting in settings}
    for _ in range(REPEATS):
        for setting in settings:
            milliseconds, digest = measure(*setting)
            times[setting].append(milliseconds)
            digests[setting].add(digest)
    rows = [
        {
            "MKL_CBWR": cbwr,
            "ATEN_CPU_CAPABILITY": capability,
            "milliseconds": round(statistics.median(times[cbwr, capability]), 4),
            "ratio": round(statistics.median(times[cbwr, capability]) / statistics.median(times[None, None]), 3),
            "weights": sorted(digest[:12] for digest in digests[cbwr, capability]),
        }
        for cbwr, capability in settings
    ]
    (HERE / "result.json").write_text(json.dumps({"repeats": REPEATS, "rows": rows}, indent=2) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
