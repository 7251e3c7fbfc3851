"""The loop to compare with: a few lines of torch, written by hand, with its tensors in memory.

`python -m experiments.bench.bare FOLDER` is one process of it. It reads the data from FOLDER once; then, one
JSON document a line, it is told which steps to train and, when everything is in memory, to go. It makes the
same minibatch steps as the framework, from the same first weights, and says what the weights were after each, but
keeps nothing on disk: no digests, no checkpoints, no log while the clock runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from experiments.bench.workload import Data, Layout, Setting, StepSize
from shards.digest import derive_seed
from shards.environment import has_avx512, pinned_variables
from shards.learners.mlp_network import first_parameters, layers_of
from shards.learners.visits import windows

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Job:
    """Steps of one shard for a loop to train.

    Attributes:
        shard: Shard number.
        seed: Seed of the initial weights, used where there is no parent.
        rows: Rows of the shard in canonical order.
        steps: The steps, in order.
        parent: Checkpoint file with the weights to start from, or None.
    """

    shard: int
    seed: int
    rows: Sequence[int]
    steps: Sequence[StepSize]
    parent: str | None

    @property
    def visits(self) -> int:
        """Record-visits of all steps."""
        return sum(step.visits for step in self.steps)


def job(layout: Layout, shard: int, first: int, parent: Path | None) -> Job:
    """Describe the steps of a shard from one position on.

    Args:
        layout: Which rows there are.
        shard: Shard number.
        first: Position of the first step to train.
        parent: Checkpoint of the step before it, or None if it is the first.

    Returns:
        The job.
    """
    steps = layout.steps(shard, first)
    seed = derive_seed(layout.setting.seed, "shard", shard, "position", steps[0].position, "module")
    return Job(shard, seed, layout.shard(shard), steps, None if parent is None else str(parent))


def spread(jobs: Sequence[Job], processes: int) -> list[list[Job]]:
    """Share jobs out so that every process has about the same number of record-visits: longest first."""
    shares: list[list[Job]] = [[] for _ in range(processes)]
    for item in sorted(jobs, key=lambda item: (-item.visits, item.shard)):
        min(shares, key=lambda share: sum(other.visits for other in share)).append(item)
    return shares


@dataclass(frozen=True)
class BareRun:
    """What a run of the loop took.

    Attributes:
        seconds: Wall time until the last process was done.
        cpu: Processor time of all processes together, in seconds.
        busy: Wall time in which each process was training, summed, in seconds.
        weights: (shard, position) to the file of the weights after that step, named as in our states.
    """

    seconds: float
    cpu: float
    busy: float
    weights: Mapping[tuple[int, int], Path]


class BareLoops:
    """Processes that are ready to train: started, everything imported, the data read.

    Args:
        setting: Sizes and hyper-parameters.
        data: The data.
        folder: A folder to hand it over in.
    """

    def __init__(self, setting: Setting, data: Data, folder: Path) -> None:
        np.save(folder / "X.npy", data.X)
        np.save(folder / "y.npy", data.y)
        (folder / "setting.json").write_text(json.dumps(asdict(setting)), encoding="utf-8")
        variables = pinned_variables(os.environ, avx512=has_avx512())
        variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "experiments.bench.bare", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=variables,
                # Like a worker: Linux shares processor time out by session first.
                start_new_session=True,
            )
            for _ in range(setting.workers)
        ]
        for process in self._processes:
            _hear(process)

    def __enter__(self) -> BareLoops:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def train(self, jobs: Sequence[Job], processes: int | None = None) -> BareRun:
        """Train jobs side by side; the clock runs from the word to go until the last process is done.

        Args:
            jobs: What to train.
            processes: On how many processes; None: on all.

        Returns:
            How long it took, and what came out.
        """
        used = self._processes[: processes or len(self._processes)]
        for process, share in zip(used, spread(jobs, len(used)), strict=True):
            _tell(process, [asdict(item) for item in share])
        for process in used:
            _hear(process)
        started = time.perf_counter()
        for process in used:
            _tell(process, "go")
        clocks = [_hear(process) for process in used]
        seconds = time.perf_counter() - started
        weights = {(shard, position): Path(file) for process in used for shard, position, file in _hear(process)}
        return BareRun(seconds, sum(c for c, _ in clocks), sum(b for _, b in clocks), weights)


def _tell(process: subprocess.Popen[bytes], message: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"a process of the bare loop ended with status {process.wait()}: its own message is above"
    return json.loads(line)


# --- in the process ------------------------------------------------------------------------------------------


def main(folder: Path) -> None:
    """Serve until standard input ends.

    Args:
        folder: Where the data is.
    """
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    setting = Setting(**json.loads((folder / "setting.json").read_text(encoding="utf-8")))
    X, y = np.load(folder / "X.npy"), np.load(folder / "y.npy")
    # One minibatch beforehand: torch imports its compiler with the first optimiser that a process makes.
    warm = Job(0, 0, [0], [StepSize(0, 1, 1)], None)
    _train(*_prepare(warm, setting, X, y), steps=warm.steps, setting=setting)
    _say("ready")
    for line in sys.stdin:
        jobs = [Job(**{**item, "steps": [StepSize(**s) for s in item["steps"]]}) for item in json.loads(line)]
        ready = [_prepare(item, setting, X, y) for item in jobs]
        _say("loaded")
        sys.stdin.readline()
        used, started = time.process_time(), time.perf_counter()
        kept = [_train(*parts, steps=item.steps, setting=setting) for item, parts in zip(jobs, ready, strict=True)]
        _say([time.process_time() - used, time.perf_counter() - started])
        _say(
            [
                (item.shard, step.position, _save(weights, folder / f"{item.shard}-{step.position}.safetensors"))
                for item, states in zip(jobs, kept, strict=True)
                for step, weights in zip(item.steps, states, strict=True)
            ]
        )


def _prepare(item: Job, setting: Setting, X: np.ndarray, y: np.ndarray) -> tuple[Any, Any, Any]:
    """The network with its first weights, and the shard's records, as tensors."""
    import torch
    from safetensors.numpy import load

    sizes = (setting.features, setting.hidden, setting.classes)
    model = torch.nn.Sequential(torch.nn.Linear(*sizes[:2]), torch.nn.Tanh(), torch.nn.Linear(*sizes[1:]))
    if item.parent is None:
        layers = [(layer.weights, layer.biases) for layer in layers_of(first_parameters(sizes, item.seed), sizes)]
    else:
        arrays = load(Path(item.parent).read_bytes())
        layers = [(arrays[f"weights/{number}"], arrays[f"biases/{number}"]) for number in range(2)]
    model.load_state_dict(
        {
            f"{2 * number}.{kind}": torch.tensor(value)
            for number, (weights, biases) in enumerate(layers)
            for kind, value in (("weight", weights.T), ("bias", biases))
        }
    )
    rows = np.array(item.rows)
    return model, torch.from_numpy(X[rows]), torch.from_numpy(y[rows])


def _train(model: Any, X: Any, y: Any, *, steps: Sequence[StepSize], setting: Setting) -> list[dict[str, np.ndarray]]:
    """The loop itself; returns copies of the weights after each step."""
    import torch
    import torch.nn.functional as functional

    optimizer = torch.optim.SGD(model.parameters(), lr=setting.learning_rate)
    states = []
    for step in steps:
        for window in windows(step.records, step.visits, setting.batch_size, None):
            index = torch.from_numpy(window)
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(X.index_select(0, index)), y.index_select(0, index))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        states.append({name: value.numpy().copy() for name, value in model.state_dict().items()})
    return states


def _save(weights: Mapping[str, np.ndarray], file: Path) -> str:
    """Write weights, named as in our states."""
    from safetensors.numpy import save_file

    ours = {}
    for number in range(2):
        ours[f"weights/{number}"] = np.ascontiguousarray(weights[f"{2 * number}.weight"].T)
        ours[f"biases/{number}"] = weights[f"{2 * number}.bias"]
    save_file(ours, file)
    return str(file)


def _say(message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
