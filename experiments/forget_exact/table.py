"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.readme import prose, source, table, values

TEXT = """\
All three end, after their deletions, in the state of a fresh training, byte for byte; the run fails otherwise. Ridge
takes {record|.0f} ms for a single record; a hundred writers one after another cost {times|.0f} times one, the last
quarter's median is {writer.drift|.2f} of the first's. After {deleted|,.0f} deleted images its accuracy is
{accuracy_left|.3f}."""


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value, setting = values(document), document["setting"]
    others = setting["trees"]
    learners = {
        "ridge": (setting["n_shards"], "accuracy", "writer", "writer.summing"),
        f"completely random trees, {others['trees']} of depth {others['depth']}": (
            *(others["n_shards"], "trees.accuracy"),
            *("trees.writer.total", "trees.writer.summing"),
        ),
        "Gaussian naive Bayes": (
            *(others["n_shards"], "naive_bayes.accuracy"),
            *("naive_bayes.writer.total", "naive_bayes.writer.summing"),
        ),
    }
    rows = [
        [title, f"{shards}", f"{value[accuracy]:.3f}", f"{value[total]:.0f} ms", f"{value[summing]:.0f} ms"]
        for title, (shards, accuracy, total, summing) in learners.items()
    ]
    head = ("learner, over the same gradients", "shards", "test accuracy", "a writer, all included", "summing in it")
    times = 1000 * value["writer.all"] / value["writer"]
    return "\n\n".join([f"{source(document)}.", table(head, rows), prose(TEXT, value | {"times": times})])
