"""The command line: every command from end to end, what it prints where, and how it exits."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from shards.errors import TrainingError
from shards.sources import from_file
from unlearn.cli.app import app
from unlearn.cli.arguments import make_learner, parse_classes, parse_options
from unlearn.progress import progress_bar
from unlearn.workspace import Workspace

COMMANDS = (
    *("demo", "create", "ingest", "train", "forget", "recover", "status", "predict"),
    *("submit", "process", "extend", "export", "verify", "receipts", "key", "countersign", "audit", "report"),
    *("register", "export-model", "artefacts", "retire", "plan", "methods", "emulate"),
)
ROOT = Path(__file__).resolve().parents[3]


def unlearn(*arguments: object) -> Result:
    """Run a command that must not fail in an unforeseen way."""
    result = CliRunner().invoke(app, [str(item) for item in arguments], prog_name="unlearn")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def document(*arguments: object) -> Any:
    """Run a command with `--json` that must succeed, and read what it printed."""
    result = unlearn(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*arguments: object, status: int = 1) -> str:
    """Run a command that must fail with one line, and return the line."""
    result = unlearn(*arguments)
    assert result.exit_code == status, (result.stdout, result.stderr)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    if status == 1:
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
    return result.stderr


def in_shell(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `python -m unlearn` in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    command = [sys.executable, "-m", "unlearn", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False, **options)


def write_people(path: Path, n: int = 60) -> Path:
    """A table with ids, subjects of two rows each, two numeric features and a label."""
    random = np.random.default_rng(0)
    rows = ["row,person,age,income,buys"]
    for row in range(n):
        label = row % 2
        age, income = random.integers(20, 40) + 20 * label, random.normal() + 3 * label
        rows.append(f"r{row},w{row // 2},{age},{income:.4f},{('no', 'yes')[label]}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


ROLES = ("--target", "buys", "--subject", "person", "--record-id", "row")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return write_people(tmp_path / "people.csv")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained workspace, never changed."""
    home = tmp_path_factory.mktemp("trained")
    for arguments in (
        ("create", home / "run", "--learner", "sgd", "--shards", 3, "--slices", 2, "--random-state", 0),
        ("ingest", home / "run", write_people(home / "people.csv"), *ROLES),
        ("train", home / "run", "--workers", 1),
    ):
        assert unlearn(*arguments).exit_code == 0
    return home / "run"


@pytest.fixture
def run(trained: Path, people: Path) -> Path:
    """A trained workspace, beside the file it was trained on."""
    return shutil.copytree(trained, people.parent / "run")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, which is not on Python's path; what a command adds to the path is taken off again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


# --- all commands, in the order of a life ----------------------------------------------------------------------


def test_a_life_in_words(tmp_path: Path, people: Path) -> None:
    folder = tmp_path / "run"
    said = unlearn("create", folder, "--learner", "logistic", "--shards", 3, "--slices", 2)
    assert (said.exit_code, said.stderr) == (0, "")
    assert "3 shards of 2 slices" in said.stdout
    assert f"unlearn ingest {folder}" in said.stdout
    said = unlearn("ingest", folder, people, *ROLES)
    assert "batch 0: 60 records of 30 subjects" in said.stdout
    assert "6 steps of 3 shards: " in unlearn("train", folder).stdout
    assert unlearn("train", folder).stdout == "nothing was missing\n"
    said = unlearn("forget", folder, "--subject", "w3", "--reason", "asked for it")
    assert "forgotten 2 records of 1 shard" in said.stdout
    request = said.stdout.split(":")[0]
    waiting = unlearn("status", folder).stdout
    for text in ("58", "1 forgotten", request, "asked for it"):
        assert text in waiting
    assert f"recovered: {request}" in unlearn("recover", folder).stdout
    assert "recovered" in unlearn("status", folder, request).stdout
    predictions = unlearn("predict", folder, people, *ROLES).stdout.splitlines()
    assert predictions[0] == "record_id,prediction"
    assert len(predictions) == 61


def test_a_life_for_machines(tmp_path: Path, people: Path) -> None:
    folder = tmp_path / "run"
    options = ("--shards", 3, "--slices", 2, "--classes", "no,yes", "--random-state", 0, "--aggregation", "vote")
    created = document("create", folder, "--learner", "sgd", *options)
    assert (created["n_shards"], created["n_slices"], created["classes"]) == (3, 2, ["no", "yes"])
    assert (created["task"], created["aggregation"]) == ("classification", "vote")
    assert document("ingest", folder, people, *ROLES)["records"] == 60
    trained = document("train", folder, "--workers", 1)
    assert (trained["steps"], trained["shards"]) == (6, 3)
    reply = document("forget", folder, "--record", "r0", "--record", "r1", "--idempotency-key", "k")
    assert (reply["request"]["state"], reply["request"]["n_records"], reply["recover"]) == ("forgotten", 2, None)
    again = document("forget", folder, "--record", "r1", "--record", "r0", "--idempotency-key", "k")
    # The opening is given once, to whoever submitted it.
    assert len(reply["request"].pop("opening")) == 64
    assert again["request"].pop("opening") is None
    assert again["request"] == reply["request"]
    status = document("status", folder)
    assert (status["records"], status["requests"]["forgotten"]) == (58, 1)
    assert status["behind"]
    assert status["request_list"] == [{**reply["request"], "opening": None, "days_late": 0}]
    assert document("recover", folder)["recovered"] == [reply["request"]["id"]]
    assert document("status", folder, reply["request"]["id"])["state"] == "receipted"
    status = document("status", folder)
    assert (status["behind"], status["steps_missing"]) == ([], 0)
    workspace = Workspace.open(folder)
    assert status["state_digest"] == workspace.state_digest()
    records = from_file(people, target="buys", subject="person", record_id="row")
    predicted = document("predict", folder, people, *ROLES)
    assert predicted["rows"] == 60
    assert predicted["prediction"] == workspace.predict(records.features).tolist()


def test_forget_and_recover_at_once(run: Path, tmp_path: Path) -> None:
    ids = tmp_path / "leavers.txt"
    ids.write_text("w1\n\n  w2 \nw7\n", encoding="utf-8")
    reply = document("forget", run, "--subject", "w9", "--ids-from", ids, "--recover")
    assert (reply["request"]["state"], reply["request"]["n_subjects"]) == ("receipted", 4)
    assert reply["recover"]["recovered"] == [reply["request"]["id"]]
    assert document("status", run)["records"] == 60 - 8


def test_later_batches_and_return_after_consent(run: Path, people: Path, tmp_path: Path) -> None:
    unlearn("forget", run, "--subject", "w0")
    back = tmp_path / "back.csv"
    lines = people.read_text(encoding="utf-8").splitlines()
    back.write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    assert "forgotten before" in refused("ingest", run, back, *ROLES)
    consent = ("--reconsent", "w0", "--reconsent", "r0")
    assert document("ingest", run, back, *ROLES, *consent) == {
        "workspace": str(run),
        "batch": 1,
        "records": 1,
        "subjects": 1,
    }


def test_records_of_later_batches_are_numbered_apart(tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, X=np.arange(20.0).reshape(10, 2), y=np.arange(10) % 2)
    unlearn("create", tmp_path / "run", "--learner", "sgd", "--shards", 1, "--slices", 1)
    assert [document("ingest", tmp_path / "run", data)["batch"] for _ in range(2)] == [0, 1]
    assert unlearn("forget", tmp_path / "run", "--record", "1:3").exit_code == 0


# --- predict -----------------------------------------------------------------------------------------------------


def test_predictions_with_probabilities(run: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    said = unlearn("predict", run, people, *ROLES, "--proba", "--out", out)
    assert said.stdout == f"60 predictions written to {out}\n"
    for screen in ((), ("--out", "-")):
        said = unlearn("predict", run, people, *ROLES, "--proba", *screen)
        assert said.stdout == out.read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    workspace = Workspace.open(run)
    features = from_file(people, target="buys", subject="person", record_id="row").features
    assert [row["prediction"] for row in rows] == workspace.predict(features).tolist()
    expected = workspace.predict_proba(features)
    assert [[float(row["p_no"]), float(row["p_yes"])] for row in rows] == expected.tolist()


def test_columns_to_predict_from_can_be_named(run: Path, people: Path) -> None:
    with_ids = unlearn("predict", run, people, *ROLES).stdout.splitlines()
    ids = [line.partition(",")[0] for line in with_ids]
    assert ids == ["record_id", *(row["row"] for row in csv.DictReader(io.StringIO(people.read_text())))]
    assert document("predict", run, people, *ROLES)["record_id"] == ids[1:]
    by_roles = "".join(line.partition(",")[2] + "\n" for line in with_ids)
    assert unlearn("predict", run, people, "--features", "age,income").stdout == by_roles
    assert unlearn("predict", run, people).stdout == by_roles  # the declared columns are found by name
    assert "incomes" in refused("predict", run, people, "--features", "age,incomes")
    assert "no record id column 'rows'" in refused("predict", run, people, "--record-id", "rows")


def test_named_features_are_found_by_name(here: Path) -> None:
    rows = [f"{('7', 'x7')[k % 2]},{k % 2 + 0.5},{k % 2}" for k in range(20)]
    (here / "train.csv").write_text("code,size,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    # Another order, another column, and a text column that happens to hold digits only; so does the second batch's.
    (here / "later.csv").write_text("code,size,label\n07,0.5,0\n8,1.5,1\n", encoding="utf-8")
    (here / "new.csv").write_text("other,size,code\nzzz,0.5,7\nyyy,1.5,7\n", encoding="utf-8")
    (here / "own_estimators.py").write_text(
        "from sklearn.compose import ColumnTransformer\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import OneHotEncoder\n"
        "columns = ColumnTransformer([('code', OneHotEncoder(handle_unknown='ignore'), ['code'])],\n"
        "                            remainder='passthrough')\n"
        "both = make_pipeline(columns, LogisticRegression())\n",
        encoding="utf-8",
    )
    document("create", "run", "--learner", "own_estimators:both", "--shards", 1, "--slices", 1)
    document("ingest", "run", "train.csv", "--target", "label")
    assert document("ingest", "run", "later.csv", "--target", "label")["records"] == 2
    document("train", "run", "--workers", 1)
    predicted = document("predict", "run", "new.csv")["prediction"]
    expected = Workspace.open("run").predict({"code": np.array(["7", "7"]), "size": np.array([0.5, 1.5])})
    assert predicted == expected.tolist()


def test_regression_predicts_numbers(tmp_path: Path) -> None:
    data, new = tmp_path / "data.npz", tmp_path / "new.npz"
    X = np.random.default_rng(0).normal(size=(30, 2))
    np.savez(data, X=X, y=X @ np.array([1.0, 2.0]))
    np.savez(new, X=X[:4])
    learner = ("--learner", "sklearn.linear_model:LinearRegression", "--task", "regression")
    unlearn("create", tmp_path / "run", *learner, "--shards", 1, "--slices", 1)
    unlearn("ingest", tmp_path / "run", data)
    unlearn("train", tmp_path / "run")
    found = document("predict", tmp_path / "run", new)
    assert np.allclose(found["prediction"], X[:4] @ np.array([1.0, 2.0]))
    assert "predicts numbers" in refused("predict", tmp_path / "run", new, "--proba")


# --- learners and options ----------------------------------------------------------------------------------------


def test_options_are_json_or_text() -> None:
    given = ["a=1", "b=1.5", "c=text", 'd={"hidden":[64]}', "e=", "f=x=y", "g=NaN", "h=true"]
    expected = {"a": 1, "b": 1.5, "c": "text", "d": {"hidden": [64]}, "e": "", "f": "x=y", "g": "NaN", "h": True}
    assert parse_options(given) == expected


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (None, None),
        ("0,1,2", [0, 1, 2]),
        ("no, yes", ["no", "yes"]),
        ("007,null", ["007", "null"]),
        ('["1", 1.5]', ["1", 1.5]),
    ],
)
def test_classes_are_numbers_or_text(text: str | None, labels: list[Any] | None) -> None:
    assert parse_classes(text) == labels


def test_networks_with_options(tmp_path: Path) -> None:
    options = ("--option", "epochs=3", "--option", "batch_size=8")
    hidden, channels = ("--option", "hidden=[5]"), ("--option", 'module_args={"channels":[5]}')
    params = document("create", tmp_path / "a", "--learner", "mlp", *options, *hidden)["learner"]["params"]
    assert (params["epochs"], params["batch_size"], params["hidden"]) == (3, 8, [5])
    params = document("create", tmp_path / "b", "--learner", "cnn", *options, *channels)["learner"]["params"]
    assert (params["epochs"], params["batch_size"], params["module_args"]) == (3, 8, {"channels": [5]})


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [
        ("predict", "--out", "p.parquet"),
        ("predict", "--out", "p.json"),
        ("export", "--output", "requests.XLSX"),
        ("report", "--output", "report.pdf"),
    ],
)
def test_no_file_is_named_for_what_it_is_not(run: Path, people: Path, command: str, option: str, name: str) -> None:
    rows = (people,) if command == "predict" else ()
    assert "ends in" in " ".join(refused(command, run, *rows, option, run.with_name(name), status=2).split())
    assert not run.with_name(name).exists()


@pytest.mark.parametrize(
    ("name", "options", "params"),
    [
        ("ridge", ['features={"map":"raw","limit":64}'], {"alpha": 1.0}),
        ("lda", ["shrinkage=0.1", 'features={"map":"raw","limit":64}'], {"shrinkage": 0.1}),
        ("gaussian_nb", ['features={"map":"raw","limit":64}'], {"var_smoothing": 1e-9}),
        ("multinomial_nb", ["alpha=0.5"], {"alpha": 0.5, "unit": 1.0}),
        ("knn", ["k=3"], {"k": 3}),
        ("random_trees", ["depth=4", "low=0"], {"depth": 4, "low": 0.0, "high": 8.0}),
    ],
)
def test_exact_learners_with_options(tmp_path: Path, name: str, options: list[str], params: dict[str, Any]) -> None:
    given = [text for option in options for text in ("--option", option)]
    created = document("create", tmp_path / "run", "--learner", name, *given)
    assert params.items() <= created["learner"]["params"].items()
    assert created["aggregation"] == "sum"
    said = refused("create", tmp_path / "no", "--learner", name, "--option", "x=1")
    assert "the learner does not take these options" in said


def test_references_find_code_in_the_current_directory(here: Path) -> None:
    (here / "own_code.py").write_text(
        "from sklearn.linear_model import Ridge\n"
        "from torch import nn\n"
        "from shards.learners.torch import TorchLearner\n"
        "ridge = Ridge(alpha=2.0)\n"
        "def net(input_shape, n_outputs):\n"
        "    return nn.Linear(input_shape[0], n_outputs)\n"
        "whole = TorchLearner('own_code:net', epochs=2)\n",
        encoding="utf-8",
    )
    params = {
        name: document("create", name, "--learner", f"own_code:{name}")["learner"]["params"]
        for name in ("ridge", "net", "whole")
    }
    assert params["ridge"]["estimator"]["params"]["alpha"] == 2.0
    assert params["net"]["module"] == "own_code:net"
    assert params["whole"]["epochs"] == 2


def test_files_lying_around_do_not_replace_libraries(here: Path) -> None:
    (here / "sklearn.py").write_text("raise AssertionError('imported')\n", encoding="utf-8")
    script = "import sys; sys.path.pop(0); from unlearn.cli import main; main()"
    arguments = ["create", "run", "--learner", "sgd"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_shorthands() -> None:
    assert make_learner("logistic", {}).params()["estimator"]["params"]["max_iter"] == 1000
    assert make_learner("sgd", {"epochs": 3}).params()["epochs"] == 3
    assert make_learner("sklearn.linear_model:Perceptron", {}).params()["mode"] == "partial_fit"


# --- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "nowhere"), "is not a workspace"),
        (("recover", "nowhere"), "is not a workspace"),
        (("status", "nowhere"), "is not a workspace"),
        (("ingest", "nowhere", "people.csv"), "is not a workspace"),
        (("predict", "nowhere", "people.csv"), "is not a workspace"),
        (("forget", "nowhere", "--record", "r0"), "is not a workspace"),
        (("create", "run", "--learner", "sgd"), "is not empty"),
        (("create", "new", "--learner", "nonsense"), "nonsense"),
        (("create", "new", "--learner", "no_such_module:name"), "no_such_module"),
        (("create", "new", "--learner", "sklearn:nothing"), "nothing"),
        (("create", "new", "--learner", "sgd", "--option", "depth=3"), "depth"),
        (("create", "new", "--learner", "mlp", "--option", "depth=3"), "depth"),
        (("create", "people.csv/new", "--learner", "sgd"), "people.csv"),
        (("ingest", "run", "missing.csv"), "missing.csv is not a file"),
        (("ingest", "run", "people.csv"), "'row', 'person', 'age', 'income', 'buys'"),
        (("ingest", "run", "people.csv", *ROLES), "already in the workspace"),
        (("forget", "run", "--record", "nobody"), "'nobody'"),
        (("forget", "run", "--ids-from", "missing.txt"), "missing.txt"),
        (("forget", "run", "--ids-from", "empty.txt"), "holds no id"),
        (("status", "run", "req-0"), "req-0"),
        (("predict", "run", "missing.csv"), "missing.csv"),
        (("predict", "run", "people.csv", *ROLES, "--out", "no/such/folder.csv"), "no/such/folder.csv"),
        (("demo", "--data", "missing.csv"), "missing.csv"),
        (("demo", "--data", "people.csv"), "no target column"),
    ],
)
def test_failures_are_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    monkeypatch.chdir(run.parent)
    assert message in refused(*arguments)
    assert message in refused(*arguments, "--json")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("train",),
        ("create", "new"),
        ("create", "new", "--learner", "sgd", "--shards", "0"),
        ("create", "new", "--learner", "sgd", "--option", "epochs"),
        ("create", "new", "--learner", "sgd", "--option", "a=1", "--option", "a=2"),
        ("create", "new", "--learner", "sgd", "--classes", "[1,"),
        ("create", "new", "--learner", "sgd", "--task", "guessing"),
        ("train", "run", "--workers", "0"),
        ("forget", "run"),
        ("demo", "--option", "epochs=1"),
    ],
)
def test_misuse(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(*arguments, status=2)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_serve_yet(tmp_path: Path, people: Path) -> None:
    unlearn("create", tmp_path / "run", "--learner", "sgd")
    assert "no records" in refused("train", tmp_path / "run")
    assert "no records" in refused("predict", tmp_path / "run", people)
    assert document("status", tmp_path / "run")["records"] == 0
    unlearn("ingest", tmp_path / "run", people, *ROLES)
    refused("predict", tmp_path / "run", people, *ROLES)


FAILING = """
from torch import nn
class Net(nn.Module):
    def __init__(self, input_shape, n_outputs):
        super().__init__()
        self.layer = nn.Linear(input_shape[0], n_outputs)
    def forward(self, x):
        if self.training and len(x) > 2:
            raise RuntimeError("first line\\nsecond line")
        return self.layer(x)
"""


def test_errors_of_the_users_code_are_one_line_unless_debugging(here: Path) -> None:
    (here / "failing.py").write_text(FAILING, encoding="utf-8")
    np.savez(here / "data.npz", X=np.ones((20, 2)), y=np.arange(20) % 2)
    document("create", "run", "--learner", "failing:Net", "--shards", 1, "--slices", 1)
    document("ingest", "run", "data.npz")
    line = refused("train", "run", "--json")
    assert line.startswith("error: training shard 0, step 0 failed: RuntimeError: first line")
    done = in_shell("train", "run", env={"UNLEARN_DEBUG": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "second line" in done.stderr
    with pytest.raises(TrainingError, match="second line"):
        CliRunner().invoke(app, ["--debug", "train", "run"], catch_exceptions=False)


def test_interrupted_training_goes_on(tmp_path: Path, people: Path) -> None:
    folder = tmp_path / "run"
    # Some tenths of a second of training a shard.
    options = ("--option", "epochs=30", "--option", "batch_size=1", "--random-state", 0)
    unlearn("create", folder, "--learner", "sgd", "--shards", 8, "--slices", 1, *options)
    unlearn("ingest", folder, people, *ROLES)
    # Where the tests run in the background, they and their children ignore the signal.
    listening = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    listening += "runpy.run_module('unlearn', run_name='__main__')"
    command = [sys.executable, "-c", listening, "train", str(folder), "--workers", "1"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables) as process:
        deadline = time.monotonic() + 120
        while not any(folder.glob("shards/*/checkpoints/*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted: what was built is kept; run the same command again\n"
    built = document("status", folder)["serving"]
    assert 0 < built < 8
    assert document("train", folder)["steps"] == 8 - built


# --- help and start-up -------------------------------------------------------------------------------------------


def test_every_command_has_help_with_an_example() -> None:
    assert set(COMMANDS) == {command.name or command.callback.__name__ for command in app.registered_commands}
    for command in COMMANDS:
        shown = unlearn(command, "--help")
        assert shown.exit_code == 0
        assert "Example" in shown.stdout
        assert f"unlearn {command}" in shown.stdout.split("Example")[1]
        assert "--json" in shown.stdout
        assert command in unlearn("--help").stdout


def test_module_runs_and_keeps_to_its_streams(run: Path) -> None:
    done = in_shell("status", run, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["records"] == 60
    done = in_shell("status", run.parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")


def test_no_color_is_honoured() -> None:
    colour = re.compile(r"\x1b\[(\d+;)*3[0-7]m")
    assert colour.search(in_shell("--help", env={"FORCE_COLOR": "1"}).stdout)
    assert not colour.search(in_shell("--help", env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout)


COLOUR = re.compile(r"\x1b\[(\d+;)*([34][0-7]|[34]8;[\d;]+)m")
TERMINAL = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "120"}


@pytest.mark.parametrize("said", [{}, {"NO_COLOR": "1"}], ids=["usual", "NO_COLOR"])
def test_progress_keeps_to_no_color(
    said: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in (TERMINAL | said).items():
        monkeypatch.setenv(name, value)
    with progress_bar("training", show=True) as start:
        start(10)(0, 0, 5)
    shown = capsys.readouterr().err
    assert "5/10" in shown
    assert bool(COLOUR.search(shown)) is not bool(said)


PLANNED = ("plan", "--records", 50000, "--requests-per-day", 3, "--visits-per-second", 40000)


@pytest.mark.parametrize(
    "command", [("status", "RUN"), ("artefacts", "RUN"), PLANNED, ("methods",)], ids=lambda c: c[0]
)
def test_tables_keep_to_no_color_and_documents_hold_no_style(run: Path, command: tuple[Any, ...]) -> None:
    texts = [str(run) if item == "RUN" else str(item) for item in command]
    assert not COLOUR.search(CliRunner(env={**TERMINAL, "NO_COLOR": "1"}).invoke(app, texts).stdout)
    given = CliRunner(env=TERMINAL).invoke(app, [*texts, "--json"]).stdout
    assert "\x1b" not in given
    json.loads(given)
