"""How fast: cached removals against L-BFGS, per-sample gradients against a loop, and a thousand removals in a row.

Times are of the processor, on one thread: what a busy machine does to short and to long work differs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn import functional

from experiments.benchmark import Figure
from unlearn.methods.base import Examples
from unlearn.methods.influence import (
    L2,
    BinaryLogistic,
    Hessian,
    ModuleObjective,
    RemovalStream,
    Woodbury,
    minimise,
    of_module,
    split,
)


def synthetic(n: int, d: int, seed: int) -> Examples:
    """Logistic data of unit rows.

    Args:
        n: Records.
        d: Features.
        seed: Of all draws.

    Returns:
        The data.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    p = 1 / (1 + np.exp(-4 * x @ rng.standard_normal(d)))
    return Examples(torch.from_numpy(x), torch.from_numpy(rng.random(n) < p).long())


def removal_figures(setting: Mapping[str, Any]) -> Iterator[Figure]:
    """Removal with a cached inverse against retraining by L-BFGS until it is as near to the optimum, cold and warm.

    Args:
        setting: Size, penalty, sets.

    Yields:
        Figures.
    """
    data, total = synthetic(setting["n"], setting["d"], 0), setting["decay"] * setting["n"]
    objective = BinaryLogistic(l2=L2(total=total))
    w = minimise(objective, data, torch.zeros(setting["d"], dtype=torch.float64), tolerance=1e-14).w
    started = time.process_time()
    cache = Woodbury().fit(Hessian(objective, w, data))
    yield Figure("speed.factor", "building the cached inverse, once", 1e3 * (time.process_time() - started), "ms")
    order = torch.from_numpy(np.random.default_rng(1).permutation(setting["n"]))
    for m in setting["sizes"]:
        gone, kept = split(data, order[:m])

        def remove(gone: Examples = gone) -> torch.Tensor:
            return w + cache.solve_without(gone, objective.removal(w, gone)).x

        removed, samples = _timed(remove, setting["repeats"])
        optimum = minimise(objective, kept, removed, tolerance=1e-14).w
        error, without = float((removed - optimum).norm()), float((w - optimum).norm())
        key, words, seconds = f"speed.{m}", f"{m} of {setting['n']:,} removed", float(np.median(samples))
        yield Figure(
            f"{key}.removal", f"{words}, cached", 1e3 * seconds, "ms", samples=[1e3 * each for each in samples]
        )
        yield Figure(
            f"{key}.error", f"{words}: distance to the optimum, of that without a removal", error / without, ""
        )
        for start, from_ in (("cold", np.zeros(setting["d"])), ("warm", w.numpy())):
            taken = [_lbfgs(kept, total, from_, optimum.numpy(), error) for _ in range(setting["retrains"])]
            ratio = float(np.median(taken)) / seconds
            goal = 30.0 if start == "cold" else None
            yield Figure(f"{key}.lbfgs_{start}", f"{words}: L-BFGS, {start}", 1e3 * float(np.median(taken)), "ms")
            yield Figure(f"{key}.ratio_{start}", f"{words}: times as fast ({start})", ratio, "x", at_least=goal)


def _lbfgs(kept: Examples, total: float, start: np.ndarray, optimum: np.ndarray, error: float) -> float:
    """Processor seconds of the loosest of L-BFGS's tolerances that comes as near; finding it is not counted."""
    x, signs = kept.inputs.numpy(), 2.0 * kept.targets.numpy() - 1

    def value(w: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (x @ w)
        slopes = -signs / (1 + np.exp(margins))
        return float(np.logaddexp(0, -margins).sum() + total / 2 * w @ w), slopes @ x + total * w

    for exponent in range(0, -12, -1):
        options = {"gtol": 10.0**exponent, "ftol": 0.0, "maxiter": 1_000, "maxfun": 10_000, "maxcor": 20}
        started = time.process_time()
        found = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
        taken = time.process_time() - started
        if np.linalg.norm(found.x - optimum) <= error:
            break
    return taken  # At its own rounding error, where no tolerance comes as near, the time of the tightest one.


def gradient_figures(setting: Mapping[str, Any]) -> Iterator[Figure]:
    """Per-sample gradients of two small networks, vectorised against one backward pass each.

    Args:
        setting: Examples, repeats.

    Yields:
        Figures.
    """
    torch.manual_seed(0)
    n = setting["examples"]
    networks = {
        "mlp": nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)),
        "cnn": nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)
        ),
    }
    examples = Examples(torch.randn(n, 1, 8, 8, dtype=torch.float64), torch.randint(0, 10, (n,)))
    for name, network in networks.items():
        module, w = of_module(network)
        objective = ModuleObjective(module=module)
        ours, vectorised = _timed(lambda o=objective, v=w: o.gradients(v, examples), setting["repeats"])
        theirs, looped = _timed(lambda m=module: _loop(m, examples), setting["repeats"])
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-13)
        ratio = float(np.median(looped) / np.median(vectorised))
        words = f"gradients of {n:,} examples, {len(w):,} parameters ({name})"
        yield Figure(f"gradients.{name}.vectorised", f"{words}: vectorised", 1e3 * float(np.median(vectorised)), "ms")
        yield Figure(f"gradients.{name}.loop", f"{words}: in a loop", 1e3 * float(np.median(looped)), "ms")
        yield Figure(f"gradients.{name}.ratio", f"{words}: times as fast", ratio, "x", at_least=10.0)


def _loop(module: nn.Module, examples: Examples) -> torch.Tensor:
    parameters = list(module.parameters())
    rows = []
    for x, y in zip(*examples, strict=True):
        loss = functional.cross_entropy(module(x[None]), y[None])
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)


def stream_figures(setting: Mapping[str, Any]) -> Iterator[Figure]:
    """Successive removals, each at random or always of the record with the highest loss, against retraining.

    Args:
        setting: Size, number, distance to keep, how often to retrain.

    Yields:
        Figures.
    """
    data = synthetic(setting["n"], setting["d"], 0)
    objective = BinaryLogistic(l2=L2(total=setting["decay"] * setting["n"]))
    start = minimise(objective, data, torch.zeros(setting["d"], dtype=torch.float64)).w
    orders = {
        "random": torch.from_numpy(np.random.default_rng(1).permutation(setting["n"])),
        "highest_loss": objective.losses(start, data).argsort(descending=True),
    }
    for kind, order in orders.items():
        stream = RemovalStream(objective, start, data, distance=setting["distance"])
        done, seconds, farthest, loosest = Counter[str](), [], 0.0, 0.0
        for count, position in enumerate(order[: setting["removals"]], start=1):
            began = time.process_time()
            removal = stream.remove(position[None])
            seconds.append(time.process_time() - began)
            done[removal.work] += 1
            if count % setting["retrain_every"] == 0:
                _, kept = split(data, order[:count])
                optimum = minimise(objective, kept, removal.w, tolerance=1e-14).w
                distance = float((removal.w - optimum).norm())
                farthest, loosest = max(farthest, distance), max(loosest, distance / removal.distance)
        words = f"{setting['removals']:,} removals one by one ({kind})"
        moved = float((stream.w - start).norm())
        yield Figure(
            f"stream.{kind}.distance", f"{words}: farthest from retraining", farthest, "", at_most=setting["distance"]
        )
        yield Figure(f"stream.{kind}.bound", f"{words}: distance over its bound, at most", loosest, "", at_most=1.0)
        yield Figure(f"stream.{kind}.moved", f"{words}: distance of retraining from where it began", moved, "")
        yield Figure(f"stream.{kind}.median", f"{words}: median time of one", 1e3 * float(np.median(seconds)), "ms")
        yield Figure(f"stream.{kind}.mean", f"{words}: mean time of one", 1e3 * float(np.mean(seconds)), "ms")
        for work in ("updated", "corrected", "refreshed"):
            yield Figure(f"stream.{kind}.{work}", f"{words}: {work}", float(done[work]), "")


def _timed(function: Callable[[], torch.Tensor], repeats: int) -> tuple[torch.Tensor, list[float]]:
    function()
    samples = []
    for _ in range(repeats):
        started = time.process_time()
        answer = function()
        samples.append(time.process_time() - started)
    return answer, samples
