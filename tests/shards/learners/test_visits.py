from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_cases import CONTEXT, DATA, TASK, learner, take

from shards.learners.visits import count_windows, windows


@given(n=st.integers(1, 40), visits=st.integers(1, 200), batch=st.integers(1, 50), shuffle=st.booleans())
@settings(deadline=None)
def test_windows_cut_passes_of_permutations(n: int, visits: int, batch: int, shuffle: bool) -> None:
    cut = list(windows(n, visits, batch, (lambda k: 1000 + k) if shuffle else None))
    assert len(cut) == count_windows(visits, batch)
    flat = np.concatenate(cut)
    assert flat.dtype == np.int64
    assert len(flat) == visits
    for k in range(0, visits, n):
        piece = flat[k : k + n].tolist()
        assert len(set(piece)) == len(piece)
        assert set(piece) <= set(range(n))
        if not shuffle:
            assert piece == list(range(len(piece)))
    counts = Counter(flat.tolist())
    times = [counts[i] for i in range(n)]
    assert max(times) - min(times) <= 1
    sizes = [len(window) for window in cut]
    assert set(sizes[:-1]) <= {batch}
    assert 1 <= sizes[-1] <= batch + 1
    assert sizes[-1] > 1 or batch == 1 or visits == 1


def test_windows_do_not_depend_on_the_budget_that_follows() -> None:
    short = np.concatenate(list(windows(10, 33, 4, lambda k: k)))
    long = np.concatenate(list(windows(10, 99, 7, lambda k: k)))
    np.testing.assert_array_equal(short, long[:33])
    assert not np.array_equal(long[:10], long[10:20])


def test_batch_normalisation_survives_a_lone_last_record() -> None:
    ours = learner("user_modules:batchnorm")
    state = ours.train_step(None, take(DATA, slice(0, 33)), replace(CONTEXT, visits=33))
    assert state["module/1.num_batches_tracked"] == 2
    assert np.isfinite(ours.predictor(state, TASK)(DATA.features)).all()


def test_epochs_are_exact_fractions() -> None:
    assert learner(epochs=20).visits(500, 5) == math.ceil(Fraction(2 * 20 * 500, 6))
    assert learner(epochs=0.1).visits(30, 1) == 3
    assert learner(epochs="1/3").visits(9, 1) == 3
    assert learner(epochs=20.0) == learner(epochs="20") == learner(epochs=Fraction(20))
    assert learner(epochs=0.5) == learner(epochs="1/2")
    assert learner(epochs=Fraction(1, 3)) == learner(epochs="1/3")
