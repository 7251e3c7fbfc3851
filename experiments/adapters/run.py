"""`python -m experiments.adapters [--quick]`: adapters over a published language model, in shards and as one model."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

from experiments.adapters.model import classifier
from experiments.adapters.texts import CLASSES, Texts, texts
from experiments.benchmark import Benchmark, Figure, Say
from experiments.worlds.stories import StoriesTokenizer, load_model
from shards.executors.local import LocalExecutor
from shards.learners.adapters import AdapterLearner
from unlearn import Workspace

DATA = Path(os.environ.get("UNLEARN_DATA", Path(__file__).parents[3] / "shared" / "data"))

LOST = 0.03
"""So much accuracy shards of adapters may lose against one model of adapters."""

UNITS = {
    "accuracy": ("test accuracy", "share"),
    "training": ("training, over all workers", "s"),
    "checkpoint": ("numbers in a checkpoint, by those of the model", "share"),
    "forget": ("one request, forgotten with its receipt", "ms"),
    "recovery": ("training to recover from it", "s"),
    "visits_share": ("record-visits to recover, by those of training everything", "share"),
    "exact": ("digest after recovery is that of training without the forgotten", "share"),
}
"""What each figure is, and its unit."""


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    found: dict[str, list[float]] = defaultdict(list)
    published, model = folder / "published.safetensors", load_model(DATA / "stories260K" / "stories260K.bin")
    arguments = _arguments(model.config)
    save_file({f"model.{name}": value.contiguous() for name, value in model.model.state_dict().items()}, published)
    tokenizer = StoriesTokenizer.load(DATA / "stories260K" / "tok512.bin", model.config.vocab_size)
    source, length = DATA / "agnews", setting["length"]
    say("texts to token ids")
    test = texts(source / "test.tsv", tokenizer, length, setting["test_texts"])
    known = texts(source / "dev.tsv", tokenizer, length, setting["texts"])
    for seed in setting["seeds"]:
        train = known.some(setting["records"], seed)
        for kind, parts in setting["kinds"].items():
            learner = AdapterLearner(classifier, arguments, weights=str(published), **parts, **setting["training"])
            for shards, slices in ((1, 1), (setting["n_shards"], setting["n_slices"])):
                name = f"{kind}.{'one' if shards == 1 else 'shards'}"
                say(f"seed {seed}: {kind} in {shards} shards of {slices} slices")
                where = folder / f"{name}-{seed}"
                for figure, value in _trial(where, learner, train, test, (shards, slices), seed, setting).items():
                    found[f"{name}.{figure}"].append(value)
            found[f"{kind}.lost"].append(found[f"{kind}.one.accuracy"][-1] - found[f"{kind}.shards.accuracy"][-1])
    return [_figure(name, values) for name, values in found.items()]


def _arguments(config: transformers.LlamaConfig) -> dict[str, int | float]:
    """What decides the published model's shape."""
    names = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "rms_norm_eps",
    )
    return {name: getattr(config, name) for name in names}


def _trial(
    folder: Path,
    learner: AdapterLearner,
    train: Texts,
    test: Texts,
    cut: tuple[int, int],
    seed: int,
    setting: Mapping[str, Any],
) -> dict[str, float]:
    """Train; in shards also forget, recover, and compare with training without the forgotten."""
    rows = np.arange(len(train.x))
    with closing(_filled(folder / "all", learner, train, rows, cut, seed, setting)) as workspace:
        report = workspace.train(progress=False)
        found = {
            "accuracy": float((workspace.predict(test.x) == test.y).mean()),
            "training": report.training_seconds,
            "checkpoint": _share(learner, workspace),
        }
        if cut[0] == 1:
            return found
        gone = np.random.default_rng(seed).permutation(rows)[: setting["deletions"]]
        started = time.perf_counter()
        workspace.forget(record_ids=[str(row) for row in gone])
        found["forget"] = 1e3 * (time.perf_counter() - started)
        recovered = workspace.recover(progress=False)
        found["recovery"] = recovered.training_seconds
        found["visits_share"] = recovered.visits / report.visits
        without = np.setdiff1d(rows, gone)
        with closing(_filled(folder / "fresh", learner, train, without, cut, seed, setting)) as fresh:
            fresh.train(progress=False)
            found["exact"] = float(workspace.state_digest() == fresh.state_digest())
        return found


def _filled(
    folder: Path,
    learner: AdapterLearner,
    train: Texts,
    rows: np.ndarray,
    cut: tuple[int, int],
    seed: int,
    setting: Mapping[str, Any],
) -> Workspace:
    """A workspace that has some of the texts, and has trained nothing."""
    n_shards, n_slices = cut
    workspace = Workspace.create(
        folder,
        learner,
        n_shards=n_shards,
        n_slices=n_slices,
        classes=list(range(len(CLASSES))),
        random_state=seed,
        executor=LocalExecutor(setting["workers"]),
    )
    workspace.ingest(train.x[rows], train.y[rows], record_ids=[str(row) for row in rows])
    return workspace


def _share(learner: AdapterLearner, workspace: Workspace) -> float:
    """Numbers that are trained, and so are in a checkpoint, by those of the model and its head."""
    with workspace.unchanging() as site, torch.random.fork_rng(devices=[]):
        module, whole = learner.make(site.task()), classifier(len(CLASSES), **learner.module_args)
    return sum(map(torch.numel, module.parameters())) / sum(map(torch.numel, whole.parameters()))


def _figure(name: str, values: list[float]) -> Figure:
    kind, _, figure = name.rpartition(".")
    kind, _, shards = kind.partition(".")
    if figure == "lost":
        words, unit = "test accuracy of one model over that of shards", "share"
    else:
        words, unit = UNITS[figure]
        words = f"{words}, {'in shards' if shards == 'shards' else 'as one model'}"
    spread = f" ± {stdev(values):.2g} over {len(values)} seeds" if len(values) > 1 else ""
    return Figure(
        name,
        f"{kind}: {words}{spread}",
        mean(values),
        unit,
        at_least=1.0 if figure == "exact" else None,
        at_most=LOST if name == "adapters.lost" else None,
        samples=values,
    )


BENCHMARK = Benchmark("adapters", "Adapters in shards", measure, versions={"transformers": transformers.__version__})
"""`python -m experiments.adapters`."""
