"""What the papers find, as an ordering of two rows of the table; it may hold here or not, and both are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Figure = Literal["ua", "ra", "ta", "mia", "gap", "kl", "time"]


@dataclass(frozen=True)
class Ordering:
    """One row has less of a figure than another.

    Attributes:
        method: Whose ordering it is.
        figure: Of the table.
        less: The row that should have less,
        more: than this one.
        source: Who says so; "re-check" where that was not looked up.
    """

    method: str
    figure: Figure
    less: str
    more: str
    source: str


SALUN = "Fan et al. 2024, Table 1"

ORDERINGS = (
    Ordering("fine_tune", "ua", "fine_tune", "retrain", f"{SALUN}: 0.63 and 5.24 (re-check)"),
    Ordering("gradient_ascent", "gap", "fine_tune", "gradient_ascent", f"{SALUN}: 3.78, 4.12 (re-check)"),
    Ordering("random_labels", "mia", "retrain", "random_labels", f"{SALUN}: 12.88, 37.36 (re-check)"),
    Ordering("neg_grad_plus", "gap", "neg_grad_plus", "gradient_ascent", "Kurmanji et al. 2023 (re-check)"),
    Ordering("cf_k", "ua", "cf_k", "eu_k", "Goel et al. 2022 (re-check)"),
    Ordering("eu_k", "gap", "eu_k", "cf_k", "Goel et al. 2022 (re-check)"),
    Ordering("l1_sparse", "gap", "l1_sparse", "fine_tune", "Jia et al. 2023; in Fan et al. 2.26, 3.78"),
    Ordering("bad_teacher", "ua", "fine_tune", "bad_teacher", "Chundawat et al. 2023 (re-check)"),
    Ordering("scrub", "gap", "scrub", "neg_grad_plus", "Kurmanji et al. 2023 (re-check)"),
    Ordering("scrub_rewind", "mia", "scrub_rewind", "scrub", "Kurmanji et al. 2023 (re-check)"),
    Ordering("task_arithmetic", "gap", "task_arithmetic", "gradient_ascent", "NegMerge 2025: 1.62; 4.12"),
    Ordering("neg_merge", "gap", "neg_merge", "task_arithmetic", "NegMerge 2025"),
    Ordering("fisher_forgetting", "gap", "fine_tune", "fisher_forgetting", "Jia et al. 2023 (re-check)"),
    Ordering("amnesiac", "ua", "fine_tune", "amnesiac", "Graves et al. 2021 (re-check)"),
    Ordering("boundary_shrink", "ua", "boundary_expand", "boundary_shrink", f"{SALUN}: 0.59, 1.78 (re-check)"),
    Ordering("boundary_expand", "ra", "boundary_shrink", "boundary_expand", f"{SALUN}: 98.3, 99.4 (re-check)"),
    Ordering("unsir", "ua", "fine_tune", "unsir", "Tarun et al. 2023 (re-check)"),
    Ordering("ssd", "time", "ssd", "fine_tune", "Foster et al. 2024, SSD (re-check)"),
    Ordering("jit", "gap", "jit", "gradient_ascent", "Foster et al. 2024, JiT (re-check)"),
    Ordering("jit", "gap", "jit", "original", "Foster et al. 2024, JiT, abstract: forgets, and still performs"),
    Ordering("salun", "gap", "salun", "random_labels", f"{SALUN}: 1.15, 7.15"),
    Ordering("forget_contrast", "gap", "forget_contrast", "fine_tune", "Triantafillou et al. 2024 (re-check)"),
    Ordering(
        "masked_small_gradients",
        "gap",
        "masked_small_gradients",
        "forget_contrast",
        "Cadet et al. 2024: MSG among the two best",
    ),
    Ordering(
        "masked_small_gradients",
        "gap",
        "masked_small_gradients",
        "gradient_ascent",
        "Cadet et al. 2024, abstract: better than that baseline",
    ),
)


def found(ordering: Ordering, means: Mapping[str, Mapping[str, float]]) -> tuple[float, float] | None:
    """Both figures, that which should be less first.

    Args:
        ordering: What to look at.
        means: Of each row of one data set, by name: the mean of each figure.

    Returns:
        The two; None where a row was not measured.
    """
    if ordering.less not in means or ordering.more not in means:
        return None
    return means[ordering.less][ordering.figure], means[ordering.more][ordering.figure]
