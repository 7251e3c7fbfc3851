"""Figures h and i: what people do without shards, or with shards and the usual tools; and the time of a prediction."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from experiments.bench.figures import Figure, ratio
from experiments.bench.machine import seconds
from experiments.bench.rig import Rig
from shards.digest import derive_seed
from shards.learners.mlp_network import first_parameters, layers_of

LOADED_SHARDS = 2
"""Shards trained with a `DataLoader`; the rest would take as long, record-visit for record-visit."""


def measure_usual(rig: Rig, fit_seconds: float) -> list[Figure]:
    """Shards with a `DataLoader` each, and one model without shards, against ours.

    Args:
        rig: Where; its trained workspace stays as it is.
        fit_seconds: Of a warm fit of ours, measured in the same run.

    Returns:
        The figures.
    """
    layout, setting = rig.layout, rig.setting
    with _one_thread():
        shards = range(min(LOADED_SHARDS, setting.n_shards))
        took = sum(_with_loader(rig, shard) for shard in shards)
        visits = sum(step.visits for shard in shards for step in layout.steps(shard))
        whole = sum(step.visits for shard in range(setting.n_shards) for step in layout.steps(shard))
        loader = took * whole / visits
        rig.say(f"a DataLoader per shard, in sequence: {loader:.1f} s, from {len(shards)} shards")
        with rig.opened(rig.trained) as workspace:
            wanted = float((workspace.predict(rig.data.X_test) == rig.data.y_test).mean())
        plain, passes, reached = _unsharded(rig, wanted)
        rig.say(f"one model without shards: {plain:.1f} s, {passes} passes, accuracy {reached:.3f} of {wanted:.3f}")
    ours = []
    for _ in range(setting.together_repeats):
        with rig.copied() as (_, workspace):
            forgets = sum(seconds(functools.partial(workspace.forget, record_ids=[row])) for row in rig.together)
            ours.append(forgets + seconds(functools.partial(workspace.recover, progress=False)))
    what = f"{len(rig.together)} requests forgotten one by one and recovered together, against one unsharded training"
    return [
        Figure(
            "h.fit_against_loader",
            "a warm fit, on all processes, against a DataLoader per shard, in sequence in one",
            fit_seconds / loader,
            "x",
            1 / 6,
            fit_seconds,
            loader,
        ),
        ratio("h.requests_against_plain", f"{what} of equal accuracy", 0.4, ours, [plain] * len(ours)),
        Figure("h.plain_accuracy", f"test accuracy of the unsharded model, after {passes} passes", reached, "share"),
    ]


def measure_predict(rig: Rig) -> list[Figure]:
    """Predict many rows and one, against a loop over the shards' networks in torch.

    Args:
        rig: Where; its trained workspace stays as it is.

    Returns:
        The figures.
    """
    import torch

    setting, repeats = rig.setting, 5
    many = np.resize(rig.data.X_test, (setting.predicted_rows, setting.features))
    modules = [_module(rig, shard).eval() for shard in range(setting.n_shards)]

    def loop(rows: np.ndarray) -> Any:
        with torch.inference_mode():
            given = torch.from_numpy(rows)
            return torch.stack([module(given).softmax(1) for module in modules]).mean(0).argmax(1).numpy()

    figures = []
    with rig.opened(rig.trained) as workspace:
        for name, rows, times, goal in (("many", many, 1, 1 / 3), ("one", many[:1], 50, 1 / 6)):
            ours, theirs = list[float](), list[float]()
            for act in (workspace.predict, loop):
                act(rows)
            for _ in range(repeats):
                for act, kept in ((workspace.predict, ours), (loop, theirs)):
                    kept.append(seconds(functools.partial(_repeat, act, rows, times)) / times)
            what = f"predict {len(rows):,} rows with {setting.n_shards} shards, against a loop over torch modules"
            figures.append(ratio(f"i.predict_{name}", what, goal, ours, theirs))
            rig.say(f"predict {len(rows):,} rows: {min(ours) * 1e3:.2f} ms, loop {min(theirs) * 1e3:.2f} ms")
    return figures


def _repeat(act: Callable[[np.ndarray], Any], rows: np.ndarray, times: int) -> None:
    for _ in range(times):
        act(rows)


def _module(rig: Rig, shard: int) -> Any:
    import torch

    setting = rig.setting
    sizes = (setting.features, setting.hidden, setting.classes)
    module = torch.nn.Sequential(torch.nn.Linear(*sizes[:2]), torch.nn.Tanh(), torch.nn.Linear(*sizes[1:]))
    first = first_parameters(sizes, derive_seed(setting.seed, "shard", shard, "position", 0, "module"))
    with torch.no_grad():
        for number, layer in enumerate(layers_of(first, sizes)):
            module[2 * number].weight.copy_(torch.from_numpy(layer.weights.T))
            module[2 * number].bias.copy_(torch.from_numpy(layer.biases))
    return module


def _minibatch(module: Any, optimizer: Any, X: Any, y: Any) -> None:
    import torch

    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(module(X), y).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _with_loader(rig: Rig, shard: int) -> float:
    """Seconds that the usual loop takes for the steps of one shard: a `TensorDataset` and a `DataLoader` a step."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    module, rows = _module(rig, shard), np.array(rig.layout.shard(shard))
    optimizer = torch.optim.SGD(module.parameters(), lr=rig.setting.learning_rate)
    X, y = torch.from_numpy(rig.data.X[rows]), torch.from_numpy(rig.data.y[rows])
    started = time.perf_counter()
    for step in rig.layout.steps(shard):
        loader = DataLoader(TensorDataset(X[: step.records], y[: step.records]), rig.setting.batch_size)
        done = 0
        while done < step.visits:
            for features, target in loader:
                _minibatch(module, optimizer, features, target)
                done += len(target)
                if done >= step.visits:
                    break
    return time.perf_counter() - started


def _unsharded(rig: Rig, wanted: float) -> tuple[float, int, float]:
    """Train one model on everything until it predicts as well: seconds, passes, accuracy; E passes at most."""
    import torch

    setting, data = rig.setting, rig.data
    module = _module(rig, 0)
    optimizer = torch.optim.SGD(module.parameters(), lr=setting.learning_rate)
    X, y, X_test = torch.from_numpy(data.X), torch.from_numpy(data.y), torch.from_numpy(data.X_test)
    took, passes, accuracy = 0.0, 0, 0.0
    while passes < setting.epochs and accuracy < wanted:
        started = time.perf_counter()
        for start in range(0, setting.records, setting.batch_size):
            rows = slice(start, start + setting.batch_size)
            _minibatch(module, optimizer, X[rows], y[rows])
        took, passes = took + time.perf_counter() - started, passes + 1
        with torch.inference_mode():
            accuracy = float((module(X_test).argmax(1).numpy() == data.y_test).mean())
    return took, passes, accuracy


@contextmanager
def _one_thread() -> Iterator[None]:
    """As a worker has it: with so little to do, a second thread waits more than it helps."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
