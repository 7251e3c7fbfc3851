"""`CertifiedRemoval` against retraining from scratch, its budget, its errors, and its ledger when the process dies."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import unlearn.methods.certified.removal as module
from unlearn.errors import (
    AlreadyForgottenError,
    BudgetSpentError,
    ConfigurationError,
    FencedError,
    InputError,
    NotServingError,
    UnknownIdError,
    WorkspaceError,
)
from unlearn.methods.certified import (
    CertifiedRemoval,
    DataDependent,
    ObjectivePerturbation,
    OutputPerturbation,
    PublicBackbone,
)
from unlearn.methods.descent_to_delete import DescentToDelete
from unlearn.methods.langevin import Langevin

MECHANISMS = (
    OutputPerturbation(),
    ObjectivePerturbation(sigma=5.0),
    ObjectivePerturbation(sigma=5.0, charge=DataDependent()),
    DescentToDelete(scale=1.0),
    Langevin(sigma=0.1, iterations=50),
)


def data(n=300, d=4, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X, (X @ rng.normal(size=(d, classes)) + 0.2 * rng.normal(size=(n, classes))).argmax(1)


def no_noise(shape):
    return np.zeros(shape)


def retrained(X, y, regularisation):
    """The optimum by scipy's general minimiser: slow, and knows nothing of this package."""

    def value(w):
        z = X @ w
        return np.logaddexp(0, z).sum() - y @ z + regularisation * len(X) / 2 * w @ w

    def slope(w):
        return X.T @ (1 / (1 + np.exp(-X @ w)) - y) + regularisation * len(X) * w

    return minimize(value, np.zeros(X.shape[1]), jac=slope, method="BFGS", options={"gtol": 1e-10}).x


def test_weights_are_those_of_retraining_but_for_the_noise():
    X, y = data()
    model = CertifiedRemoval(regularisation=0.01, noise=no_noise).fit(X, y)
    for gone in ([3], [7, 250, 11], list(range(20, 60))):
        model.forget(gone)
    left = [row for row in range(300) if row not in {3, 7, 250, 11, *range(20, 60)}]
    distance = np.linalg.norm(model.coef_[0] - retrained(X[left], y[left], 0.01))
    assert distance <= 1e-8 + 0.5 * 2.0**-12 * 2  # BFGS's own error, and the grid of an eighth of the noise at most
    assert model.budget.removed == 44
    assert model.certificate.n == 256
    assert model.certificate.account["mu_squared"] > 0


@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_charged_covers_the_distance_to_retraining(classes):
    """With a tolerance so loose that there is something to see: retraining, too, may stop anywhere within it."""
    X, y = data(classes=classes)
    mechanism = OutputPerturbation(scale=1.0, tolerance=1e-3)
    model = CertifiedRemoval(mechanism, regularisation=0.01, epsilon=50.0).fit(X, y)
    total, gone = 0.0, 0
    for m in (1, 2, 30, 100):
        model.forget(list(range(gone, gone + m)))
        gone += m
        after = model._problem
        exact = OutputPerturbation(tolerance=1e-12).train(after, no_noise).weights
        loose = mechanism.train(after, no_noise).weights
        charged = np.sqrt(model.budget.account["mu_squared"] - total)
        total = model.budget.account["mu_squared"]
        assert 0 < float((model._held.weights - loose).norm()) <= charged
        # Strong convexity is all that the charge for the residual rests on.
        assert float((model._held.weights - exact).norm()) <= after.residual(model._held.weights) / after.convexity
        assert float((loose - exact).norm()) <= np.sqrt(loose.shape[1]) * 1e-3 * len(after) / after.convexity


def test_noise_has_the_declared_scale_and_hides_the_last_bits():
    X, y = data()
    model = CertifiedRemoval(OutputPerturbation(scale=0.01), regularisation=0.01).fit(X, y)
    centre = model._held.weights.numpy().T
    draws = []
    for row in range(200):
        model.forget([row])
        draws.append(model.coef_ - model._held.weights.numpy().T)
    assert np.std(draws) == pytest.approx(0.01, rel=0.1)
    assert np.allclose(model.coef_ * 2**9, np.round(model.coef_ * 2**9), atol=0)
    assert not np.allclose(centre, model.coef_, atol=1e-4)


@pytest.mark.parametrize("heads", [1, 3])
def test_squared_loss_is_retraining_to_the_floor(heads):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(200, 6)), rng.normal(size=(200, heads))
    # A tolerance of twice what rounding may do: less cannot be asked for.
    rough = CertifiedRemoval(loss="squared", regularisation=0.01).fit(X, Y)
    floor = rough._problem.floor(rough._held.weights)
    model = CertifiedRemoval(OutputPerturbation(tolerance=2 * floor / 200), loss="squared", regularisation=0.01).fit(
        X, Y
    )
    for gone in (list(range(20)), list(range(20, 50))):
        model.forget(gone)
    exact = np.linalg.solve(X[50:].T @ X[50:] + 0.01 * 150 * np.eye(6), X[50:].T @ Y[50:])
    assert np.linalg.norm(model._held.weights.numpy() - exact) < 1e-12
    assert model._problem.residual(model._held.weights) < 3 * np.sqrt(heads) * floor
    assert floor < 1e-10
    # Objective perturbation: one Newton step is exact, so only rounding is charged.
    perturbed = CertifiedRemoval(
        ObjectivePerturbation(sigma=1.0, charge=DataDependent()), loss="squared", regularisation=0.01
    ).fit(X, Y)
    for row in range(50):
        perturbed.forget(row)
    assert perturbed.budget.account["beta"] < 1e-8


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_mechanism_fits_forgets_and_predicts(mechanism, classes):
    X, y = data(n=600, classes=classes)
    labels = np.array(["a", "b", "c"])[y]
    model = CertifiedRemoval(mechanism, regularisation=0.1, epsilon=5.0, when_spent="retrain").fit(X, labels)
    for gone in ([1], [2, 3]):
        model.forget(gone)
    assert set(model.predict(X)) <= {"a", "b", "c"}
    assert model.certificate.spent <= model.certificate.epsilon == 5.0
    assert model.certificate.removed == 3
    assert model.certificate.claim.assumptions
    assert model.certificate.claim.caveats
    assert json.dumps(model.certificate.to_json())
    proven = not isinstance(getattr(mechanism, "charge", None), DataDependent)
    assert model.certificate.proven is proven
    assert ("NOT PROVEN" in str(model.certificate)) is not proven
    assert model.coef_.shape == (1 if classes == 2 else 3, 4)


def test_a_class_outlives_its_records_and_the_certificate_says_so():
    X, y = data()
    y[7] = 2
    model = CertifiedRemoval(regularisation=0.01).fit(X, y).forget([7])
    assert model.coef_.shape == (3, 4)
    assert any("keeps its head" in line for line in model.certificate.claim.caveats)


def test_the_certificate_in_a_sentence_holds_nothing_computed_from_data():
    said = []
    for seed in (0, 1):
        X, y = data(seed=seed)
        model = CertifiedRemoval(OutputPerturbation(scale=1e-7), regularisation=0.01).fit(X, y).forget([3])
        said.append((str(model.certificate), model.certificate.spent))
    assert said[0][0] == said[1][0]
    assert said[0][1] != said[1][1]


def test_the_model_is_good():
    X, y = data(classes=3, n=900)
    model = CertifiedRemoval(regularisation=1e-4).fit(X, y)
    before = model.score(X, y)
    model.forget(list(range(100)))
    assert model.score(X[100:], y[100:]) == pytest.approx(before, abs=0.02)
    assert before > 0.9


def test_the_budget_starts_anew_with_fresh_noise():
    X, y = data(n=400)
    mechanism = ObjectivePerturbation(sigma=0.5, charge=DataDependent())
    model = CertifiedRemoval(mechanism, regularisation=0.003, epsilon=0.5, when_spent="retrain").fit(X, y)
    spent, row = [], 0
    while row < 60:
        before = model.coef_.copy()
        model.forget([row])
        row += 1
        spent.append(model.budget.spent)
        assert model.budget.spent <= 0.5
        assert not np.array_equal(model.coef_, before)
    assert model.budget.retrainings > 0
    assert min(np.diff(spent)) < 0


def test_a_spent_budget_refuses_and_changes_nothing():
    X, y = data(n=400)
    mechanism = ObjectivePerturbation(sigma=0.5, charge=DataDependent())
    model = CertifiedRemoval(mechanism, regularisation=0.003, epsilon=0.5).fit(X, y)
    spent = []

    def forget_all():
        for row in range(60):
            model.forget([row])
            spent.append(model.budget.spent)

    with pytest.raises(BudgetSpentError, match=r"0\.5 is promised"):
        forget_all()
    assert 0 < len(spent) < 60
    assert spent == sorted(spent)
    assert spent[-1] <= 0.5
    held = model.coef_.copy()
    with pytest.raises(BudgetSpentError):
        model.forget([len(spent)])
    assert np.array_equal(model.coef_, held)
    assert model.budget.removed == len(spent)
    assert model.budget.spent == spent[-1]


def test_what_was_published_stays_charged_when_the_default_retrains():
    X, y = data()
    mechanism = OutputPerturbation(scale=1e-7, tolerance=1e-10)
    model = CertifiedRemoval(mechanism, regularisation=0.01, epsilon=0.2, when_spent="retrain").fit(X, y)
    seen = []
    for row in range(100):
        model.forget([row])
        seen.append(model.budget.spent)
    assert seen == sorted(seen)
    assert model.budget.retrainings > 0
    assert seen[-1] <= 0.2


def test_decisions_of_the_proven_objective_perturbation_depend_on_counts_alone():
    accounts = []
    for seed in (0, 1):
        X, y = data(seed=seed, n=2000)
        model = CertifiedRemoval(ObjectivePerturbation(sigma=20.0), regularisation=0.1).fit(X, y)
        model.forget([0]).forget([1, 2])
        accounts.append(model.budget.account)
    assert accounts[0] == accounts[1]
    assert 0 < model.budget.spent < 1


# Bad input


def test_bad_configuration_is_refused():
    for wrong, words in (
        ({"regularisation": 0.0}, "above 0"),
        ({"regularisation": -1.0}, "above 0"),
        ({"loss": "softmax"}, "convex"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"delta": 1.0}, "delta"),
        ({"when_spent": "ignore"}, "refuse"),
        ({"features": torch.nn.Linear(3, 2)}, "PublicBackbone"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            CertifiedRemoval(**wrong)
    with pytest.raises(ConfigurationError, match="sigma"):
        ObjectivePerturbation(sigma=0.0)
    with pytest.raises(ConfigurationError, match="scale"):
        OutputPerturbation(scale=float("nan"))
    with pytest.raises(ConfigurationError, match="iterations"):
        Langevin(iterations=10, training=5)
    with pytest.raises(ConfigurationError, match="scale"):
        DescentToDelete(scale=0.0)


@pytest.mark.parametrize("mechanism", [MECHANISMS[1], *MECHANISMS[3:]], ids=lambda one: type(one).__name__)
def test_rows_must_be_normalised_where_the_bound_needs_it(mechanism):
    X, y = data()
    X[17] *= 2
    with pytest.raises(InputError, match="row 17 has norm 2"):
        CertifiedRemoval(mechanism).fit(X, y)
    with pytest.raises(ConfigurationError, match="logistic"):
        CertifiedRemoval(mechanism, loss="squared").fit(X, y)
    CertifiedRemoval().fit(X, y)  # The default needs no norm.


def test_bad_requests_are_refused_and_change_nothing():
    X, y = data()
    names = [f"id{row}" for row in range(300)]
    model = CertifiedRemoval(regularisation=0.01)
    with pytest.raises(NotServingError, match="fit"):
        model.forget([0])
    model.fit(X, y, ids=names)
    model.forget(["id0", "id5"])
    before = model.coef_.copy()
    for wrong, kind, words in (
        (["id0"], AlreadyForgottenError, "id0"),
        (["id1", "id5"], AlreadyForgottenError, "id5"),
        (["nobody"], UnknownIdError, "nobody"),
        (["id1", "id1"], InputError, "twice"),
        ([], InputError, "nothing to forget"),
        ([name for name in names if name not in {"id0", "id5"}], InputError, "all records"),
    ):
        with pytest.raises(kind, match=words):
            model.forget(wrong)
    assert np.array_equal(model.coef_, before)
    assert model.budget.removed == 2
    with pytest.raises(InputError, match="fitted before"):
        model.fit(X, y)


def test_bad_data_are_refused():
    X, y = data()
    for wrong, words in (
        ((X[:5], y), "rows"),
        ((X, np.zeros(300)), "two classes"),
        ((np.where(X > 0.9, np.nan, X), y), "finite"),
        ((X.astype(str), y), "numbers"),
        ((X, y, ["a"] * 300), "differ"),
        ((X, y, ["a"]), "300 rows, but 1 ids"),
        ((X, y, [1.5] * 300), "strings or integers"),
    ):
        with pytest.raises(InputError, match=words):
            CertifiedRemoval().fit(*wrong)


def test_a_tolerance_below_the_floor_is_refused():
    X, y = data()
    with pytest.raises(ConfigurationError, match="rounding"):
        CertifiedRemoval(OutputPerturbation(tolerance=1e-18)).fit(X, y)


def test_heads_on_a_public_backbone():
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU())
    features = PublicBackbone(backbone)
    assert backbone.training
    X, y = data()
    model = CertifiedRemoval(ObjectivePerturbation(sigma=5.0), features=features, regularisation=0.05, epsilon=50.0)
    model.fit(X.astype(np.float32), y).forget([0])
    found = features(X.astype(np.float32))
    assert found.shape == (300, 17)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert np.array_equal(found[:3], features(X[:3].astype(np.float32)))
    assert model.predict(X.astype(np.float32)).shape == (300,)


# The ledger


def opened(path, mechanism=None, **options):
    return CertifiedRemoval(mechanism, regularisation=0.01, path=path, **options)


def test_a_folder_is_opened_where_it_was_left(tmp_path):
    X, y = data()
    first = opened(tmp_path / "model").fit(X, y)
    first.forget([4]).forget([8, 9])
    again = opened(tmp_path / "model").open(X, y)
    assert again.budget == first.budget
    assert np.array_equal(again.coef_, first.coef_)
    with pytest.raises(AlreadyForgottenError):
        again.forget([8])
    again.forget([10])
    assert again.budget.account["mu_squared"] > first.budget.account["mu_squared"]
    with pytest.raises(FencedError, match="open it again"):
        first.forget([11])
    for name in ("secret", "ledger.jsonl", "state.npz"):
        assert stat.S_IMODE((tmp_path / "model" / name).stat().st_mode) == 0o600
    content = (tmp_path / "model" / "ledger.jsonl").read_text()
    assert "id" not in json.loads(content.splitlines()[0])


def test_a_ledger_is_opened_with_its_own_promise_and_data_only(tmp_path):
    X, y = data()
    names = [f"person {row}" for row in range(300)]
    opened(tmp_path / "model").fit(X, y, names).forget("person 3")
    assert "person" not in (tmp_path / "model" / "ledger.jsonl").read_text()
    for wrong, words in (
        ({"epsilon": 2.0}, "epsilon"),
        ({"mechanism": OutputPerturbation(scale=1.0)}, "mechanism"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            opened(tmp_path / "model", **wrong).open(X, y, names)
    with pytest.raises(InputError, match="299 records"):
        opened(tmp_path / "model").open(X[:200], y[:200], names[:200])
    left = [row for row in range(300) if row != 3]
    opened(tmp_path / "model").open(X[left], y[left], [names[row] for row in left])
    with pytest.raises(WorkspaceError, match="not empty"):
        opened(tmp_path / "model").fit(X, y)
    with pytest.raises(WorkspaceError, match="no ledger"):
        opened(tmp_path / "other").open(X, y)
    with pytest.raises(ConfigurationError, match="path"):
        CertifiedRemoval().open(X, y)


def test_a_line_cut_off_by_a_crash_goes(tmp_path):
    X, y = data()
    model = opened(tmp_path / "model").fit(X, y).forget([1])
    with (tmp_path / "model" / "ledger.jsonl").open("a") as file:
        file.write('{"kind": "char')
    again = opened(tmp_path / "model").open(X, y).forget([2])
    assert again.budget.removed == 2
    assert opened(tmp_path / "model").open(X, y).budget == again.budget
    assert model.budget.removed == 1


DIES = """
import os, sys
from tests.unlearn.methods.certified.test_removal import CRASHING, WHEN, data, opened
from unlearn.methods.certified.ledger import FileLedger

keep, append = FileLedger.keep, FileLedger.append

def die(mechanism, when, path):
    def dying_keep(self, arrays):
        if when == "charged":
            os._exit(9)
        keep(self, arrays)

    def dying_append(self, entry):
        if when == "before" and entry["kind"] == "charged":
            os._exit(9)
        if when == "kept" and entry["kind"] == "released":
            os._exit(9)
        append(self, entry)

    model = opened(path, mechanism).fit(*data()).forget([1])
    FileLedger.keep, FileLedger.append = dying_keep, dying_append
    model.forget([2, 3])

for name, mechanism in CRASHING.items():
    for when in WHEN:
        child = os.fork()
        if not child:
            die(mechanism, when, sys.argv[1] + f"/{name}-{when}")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
"""
CRASHING = {
    "output": OutputPerturbation(scale=1e-6),
    "objective": ObjectivePerturbation(sigma=10.0, charge=DataDependent()),
    "descent": DescentToDelete(scale=20.0, iterations=50),
}
WHEN = ("before", "charged", "kept")


@pytest.fixture(scope="module")
def died(tmp_path_factory):
    """Folders of processes that ended by `os._exit` in the middle of a request; one interpreter forks them all."""
    folder = tmp_path_factory.mktemp("died")
    root = Path(module.__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", DIES, str(folder)], cwd=root, env=environment, check=True)
    return folder


@pytest.mark.parametrize("mechanism", sorted(CRASHING))
@pytest.mark.parametrize("when", WHEN)
def test_no_charge_is_forgotten_when_the_process_dies(died, mechanism, when):
    path = died / f"{mechanism}-{when}"
    X, y = data()
    # The same without the crash: what must be on record.
    whole = opened(None, CRASHING[mechanism]).fit(X, y).forget([1])
    once = whole.budget.account
    whole.forget([2, 3])
    found = opened(path, CRASHING[mechanism]).open(X, y)
    if when == "before":
        assert found.budget.removed == 1
        assert found.budget.account.keys() == once.keys()
        found.forget([2, 3])
    assert found.budget.removed == 3
    assert len(found._problem) == 297
    with pytest.raises(AlreadyForgottenError):
        found.forget([3])
    if "mu_squared" in once:
        # What was charged for a model that may have been published stays charged.
        assert found.budget.account["mu_squared"] == pytest.approx(whole.budget.account["mu_squared"], rel=0.5)
        assert found.budget.account["mu_squared"] > once["mu_squared"]
    entries = [json.loads(line) for line in (path / "ledger.jsonl").read_text().splitlines()]
    assert [entry["kind"] for entry in entries[-2:]] == ["charged", "released"]
    assert entries[-2]["action"] == ("update" if when == "before" else "complete")
    assert opened(path, CRASHING[mechanism]).open(X, y).budget == found.budget
    # The model is one of what remains, within a few standard deviations of the noise.
    if mechanism == "output":
        left = [0, *range(4, 300)]
        assert np.abs(found.coef_[0] - retrained(X[left], y[left], 0.01)).max() < 1e-4
