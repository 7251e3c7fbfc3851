"""A checkpoint is a function of its key's inputs: not of workers, order, process, settings, or later data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from shards.executors.base import OnBuilt, OnProgress, OnTurn, Program, carry_on
from shards.executors.local import LocalExecutor, close_workers
from shards.train import ChainOrder
from tests.cases import CASES, LIGHT, ROOT, SGD, Case, contents, digits, ingest, placed, record, test_rows, trained
from unlearn import Workspace

FIRST = [record(i, f"person {i % 31}") for i in range(70)]
SECOND = [record(i, f"person {i % 31}") for i in range(70, 110)]
BATCHES = (FIRST, SECOND)
S, R = 3, 2


# Module scope, so that a learner's tests run together and its workers stay warm.
@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param


@pytest.fixture(scope="module")
def usual(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Both batches, trained in the ordinary way."""
    workspace = trained(tmp_path_factory.mktemp("usual") / "w", case, BATCHES, S, R)
    yield workspace
    workspace.close()


class OneByOneReversed(LocalExecutor):
    """Trains the chains last to first, each in a process of its own."""

    def run(
        self,
        program: Program,
        orders: Sequence[ChainOrder],
        on_built: OnBuilt,
        on_progress: OnProgress,
        on_turn: OnTurn = carry_on,
    ) -> None:
        for order in sorted(orders, key=lambda order: order.shard, reverse=True):
            close_workers()
            super().run(program, [order], on_built, on_progress, on_turn)


class StepByStep(LocalExecutor):
    """Asks for every step on its own, so that each starts from the bytes of its parent's file."""

    def run(
        self,
        program: Program,
        orders: Sequence[ChainOrder],
        on_built: OnBuilt,
        on_progress: OnProgress,
        on_turn: OnTurn = carry_on,
    ) -> None:
        for order in orders:
            for done, step in enumerate(order.steps):
                rest = order.after(done)
                alone = ChainOrder(
                    **{**vars(rest), "slices": rest.slices[: step.position + 1], "steps": rest.steps[:1]}
                )
                super().run(program, [alone], on_built, on_progress, on_turn)


# --- who trains, and in what order -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_the_number_of_workers_changes_nothing(case: Case, usual: Workspace, tmp_path: Path, n_workers: int) -> None:
    other = trained(tmp_path / "w", case, BATCHES, S, R, executor=LocalExecutor(n_workers))
    assert contents(other) == contents(usual)
    assert other.state_digest() == usual.state_digest()


def test_training_step_by_step_changes_nothing(case: Case, usual: Workspace, tmp_path: Path) -> None:
    other = trained(tmp_path / "w", case, BATCHES, S, R, executor=StepByStep(1))
    assert contents(other) == contents(usual)
    assert other.state_digest() == usual.state_digest()


def test_the_order_of_shards_and_the_age_of_workers_change_nothing(tmp_path: Path) -> None:
    usual = trained(tmp_path / "usual", SGD, BATCHES, S, R)
    other = trained(tmp_path / "other", SGD, BATCHES, S, R, executor=OneByOneReversed(1))
    assert contents(other) == contents(usual)
    assert other.state_digest() == usual.state_digest()


def test_when_training_happened_changes_nothing(case: Case, usual: Workspace, tmp_path: Path) -> None:
    other = trained(tmp_path / "w", case, [FIRST], S, R)
    other.train()
    ingest(other, case, SECOND)
    other.train()
    assert contents(other) == contents(usual)


def test_what_is_compared_is_no_constant(case: Case, usual: Workspace) -> None:
    """No two steps of a workspace are equal."""
    found = contents(usual)
    assert len(found) == S * R * len(BATCHES)
    assert len(set(found.values())) == len(found)


# --- no look-ahead -----------------------------------------------------------------------------------------------


def test_a_new_batch_changes_no_old_key_and_no_old_file(case: Case, tmp_path: Path) -> None:
    workspace = trained(tmp_path / "w", case, [FIRST], S, R)
    keys = {place: step.key for place, step in workspace._site.ledger.steps().items()}
    files = {path: path.read_bytes() for path in (tmp_path / "w").glob("shards/*/checkpoints/*")}
    assert len(files) == len(keys) == S * R

    ingest(workspace, case, SECOND)
    assert workspace.status().steps_missing == S * R
    workspace.train()
    steps = workspace._site.ledger.steps()
    assert {place: steps[place].key for place in keys} == keys
    assert {path: path.read_bytes() for path in files} == files
    assert len(list((tmp_path / "w").glob("shards/*/checkpoints/*"))) == 2 * S * R


def test_the_first_batch_alone_gives_the_bytes_it_gives_in_a_longer_chain(
    case: Case, usual: Workspace, tmp_path: Path
) -> None:
    alone = trained(tmp_path / "w", case, [FIRST], S, R)
    longer = contents(usual)
    assert contents(alone) == {place: content for place, content in longer.items() if place[1] < R}


@pytest.mark.parametrize("last", [0, 2])
def test_the_first_slices_alone_give_the_bytes_they_give_in_a_longer_chain(
    case: Case, tmp_path: Path, last: int
) -> None:
    slices = placed(FIRST, 2, 4).slices
    early = [item for item, piece in zip(FIRST, slices, strict=True) if piece <= last]
    whole = contents(trained(tmp_path / "whole", case, [FIRST], 2, 4))
    part = contents(trained(tmp_path / "part", case, [early], 2, 4))
    first = {place for place in whole if place[1] <= last}
    assert len(first) == 2 * (last + 1)
    assert {place: part[place] for place in first} == {place: whole[place] for place in first}
    # What follows has other inputs: the shorter chain repeats its last slice, the longer one has more data.
    assert all(part[place] != whole[place] for place in whole.keys() - first)


@pytest.mark.parametrize("piece", [1, 3])
def test_changed_records_change_no_step_before_their_slice(case: Case, tmp_path: Path, piece: int) -> None:
    changed = {
        item.id: np.flip(digit).reshape((8, 8) if case.image else (64,))
        for item, place, digit in zip(FIRST, placed(FIRST, 2, 4).slices, digits()[0][: len(FIRST)], strict=True)
        if place == piece
    }
    before = contents(trained(tmp_path / "before", case, [FIRST], 2, 4))
    after = contents(trained(tmp_path / "after", case, [FIRST], 2, 4, **changed))
    assert before.keys() == after.keys()
    assert {place for place in before if before[place] != after[place]} == {
        place for place in before if place[1] >= piece
    }


# --- where it happens --------------------------------------------------------------------------------------------

SCRIPT = """
import json, sys
from pathlib import Path
from tests.cases import LIGHT, trained
from tests.unlearn.test_purity import BATCHES, R, S
found = {case.name: trained(Path(sys.argv[1]) / case.name, case, BATCHES, S, R).state_digest() for case in LIGHT}
print(json.dumps(found))
"""

HOSTILE = {
    "OMP_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    "PYTHONHASHSEED": "17",
    "LC_ALL": "C",
    "TZ": "Asia/Tokyo",
}
"""What a user's shell may hold, and what would change bits in a worker that inherited it."""


@pytest.mark.slow
def test_another_process_with_other_variables_gives_the_same_state(tmp_path: Path) -> None:
    here = {case.name: trained(tmp_path / case.name, case, BATCHES, S, R).state_digest() for case in LIGHT}
    there = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "there")],
        env={**os.environ, **HOSTILE, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(there.stdout) == here


@pytest.mark.parametrize("light", LIGHT, ids=str)
def test_the_users_own_generators_and_settings_change_nothing(tmp_path: Path, light: Case) -> None:
    import torch

    usual = trained(tmp_path / "usual", light, BATCHES, S, R)
    expected = usual.predict_proba(test_rows(light)).tobytes()
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    drawn = np.random.get_state()
    try:
        np.random.seed(99)
        torch.manual_seed(99)
        torch.set_num_threads(2)
        other = trained(tmp_path / "other", light, BATCHES, S, R)
        assert other.state_digest() == usual.state_digest()
        assert other.predict_proba(test_rows(light)).tobytes() == expected
    finally:
        np.random.set_state(drawn)
        torch.set_rng_state(generator)
        torch.set_num_threads(threads)
