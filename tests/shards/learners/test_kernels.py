"""What the name of a kernel stands for: the source that training runs, and what it does on every machine.

Checkpoints are found by a key in which `Learner.kernel` stands for the code of this package. So the code may not
change what training produces unless that name changes too. Two kinds of test say so: the source of each kernel
is pinned by digest, and its seeds, its order of visits and an exact training are compared with literal numbers.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import random
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
import user_modules

from shards.digest import derive_seed
from shards.learners.adapters import AdapterLearner
from shards.learners.base import Learner, StepContext, StepData, epoch_visits
from shards.learners.generators import generators_kept, seed_generators
from shards.learners.mlp import MLPLearner
from shards.learners.private_torch import PrivateTorchLearner
from shards.learners.random_trees import RandomTreesLearner
from shards.learners.schedules import cosine, linear, step
from shards.learners.sklearn import SklearnLearner
from shards.learners.torch import TorchLearner
from shards.learners.torch_tensors import moments
from shards.learners.visits import count_windows, windows
from shards.task import FieldSchema, Task

# --- the source ----------------------------------------------------------------------------------------------

PINS = {
    "adapters/1 torch/1": "7563b92c7466607711f6b76795dcdb7cb3cb30c348bdf45faee167cde233852f",
    "mlp/1": "de616d329607a7da1a26fa230a1a530db1dc58c5b5606887f453645b8901a5b1",
    "private-torch/2": "91753629f75c0b3871e1a61ada67ac4ec556c58f08024ff6270c7f1a9d42566b",
    "random_trees/1": "2f530c0153aedb2b3d7067868c5128f422f654d058570bbd57e84c1de9267495",
    "sklearn/1": "5a036921051464d95df49dd54ca99c89f6471b9f4e9814abde011dedf6588305",
    "torch/1": "8029fbd824d6bc2ce841d4ea78294f2f5e63db036e56ae094a6d6aa4482eb962",
}
"""Digest of the source of each kernel, by its name."""

SHARED = (
    "shards.digest:derive_seed",
    "shards.digest:digest_parts",
    "shards.learners.base:StepContext.seed",
    "shards.learners.base:epoch_visits",
)
SOURCES: dict[type[Learner], tuple[str, ...]] = {
    MLPLearner: (
        *SHARED,
        "shards.learners.mlp",
        "shards.learners.mlp_network",
        "shards.learners.mlp_rules",
        "shards.learners.schedules",
        "shards.learners.torch_settings",
        "shards.learners.torch_tensors",
        "shards.learners.visits",
    ),
    TorchLearner: (
        *SHARED,
        "shards.learners.generators",
        "shards.learners.schedules",
        "shards.learners.torch",
        "shards.learners.torch_forward",
        "shards.learners.torch_output",
        "shards.learners.torch_parts",
        "shards.learners.torch_settings",
        "shards.learners.torch_state",
        "shards.learners.torch_tensors",
        "shards.learners.visits",
    ),
    AdapterLearner: (
        *SHARED,
        "shards.learners.adapters",
        "shards.learners.generators",
        "shards.learners.low_rank",
        "shards.learners.schedules",
        "shards.learners.torch",
        "shards.learners.torch_forward",
        "shards.learners.torch_output",
        "shards.learners.torch_parts",
        "shards.learners.torch_settings",
        "shards.learners.torch_state",
        "shards.learners.torch_tensors",
        "shards.learners.visits",
        "shards.learners.weights",
    ),
    RandomTreesLearner: (
        "shards.digest:canonical_json",
        "shards.learners.counting",
        "shards.learners.feature_maps:FeatureMap",
        "shards.learners.feature_maps:Raw",
        "shards.learners.feature_maps:count",
        "shards.learners.feature_maps:largest_count",
        "shards.learners.merging",
        "shards.learners.random_trees",
        "shards.learners.sums",
    ),
    PrivateTorchLearner: (
        *SHARED,
        "shards.learners.dp_sgd",
        "shards.learners.generators",
        "shards.learners.private_torch",
        "shards.learners.schedules",
        "shards.learners.torch",
        "shards.learners.torch_forward",
        "shards.learners.torch_output",
        "shards.learners.torch_parts",
        "shards.learners.torch_settings",
        "shards.learners.torch_state",
        "shards.learners.torch_tensors",
        "shards.learners.visits",
    ),
    SklearnLearner: (
        *SHARED,
        "shards.learners.canonical",
        "shards.learners.estimators",
        "shards.learners.generators",
        "shards.learners.skops_state",
        "shards.learners.sklearn",
        "shards.learners.sklearn_inputs",
        "shards.learners.trusted",
    ),
}
"""What each kernel consists of: modules, or single functions and classes of modules."""

BESIDE = {
    "shards.learners.base",
    "shards.learners.feature_maps",
    "shards.learners.joined",
    "shards.learners.limits",
    "shards.learners.private_checks",
    "shards.learners.sklearn_checks",
    "shards.learners.torch_checks",
    "shards.learners.torch_dense",
    "shards.learners.torch_modules",
}
"""Imported by a kernel's modules, but only refuses, only predicts, or is pinned in part."""


def canonical(node: object) -> str:
    """A syntax tree as text: no docstrings, positions, comments or messages, the same in every version of Python.

    `ast.dump` is not, since versions differ in the empty fields they have and show.
    """
    if isinstance(node, list):
        return f"[{','.join(map(canonical, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        # A string alone in a body does nothing: docstrings, also those of attributes and constants.
        fields["body"] = [child for child in node.body if not _is_text(child)]
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        fields["exc"] = node.exc.func  # what an error says is in no state
    shown = (f"{name}={canonical(value)}" for name, value in sorted(fields.items()) if value not in (None, []))
    return f"{type(node).__name__}({','.join(shown)})"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def tree_of(source: str) -> ast.AST:
    """The syntax tree of a module, `"package.module"`, or of a part of it, `"package.module:Class.function"`."""
    module, _, qualname = source.partition(":")
    tree: ast.AST = ast.parse(inspect.getsource(importlib.import_module(module)))
    for name in filter(None, qualname.split(".")):
        (tree,) = (child for child in ast.iter_child_nodes(tree) if getattr(child, "name", None) == name)
    return tree


def source_digest(kind: type[Learner]) -> str:
    """Digest of all that a kernel consists of."""
    state = hashlib.sha256()
    for source in sorted(SOURCES[kind]):
        state.update(f"{source} {canonical(tree_of(source))}\n".encode())
    return state.hexdigest()


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
def test_the_source_of_a_kernel_is_what_its_version_stands_for(kind: type[Learner]) -> None:
    found = source_digest(kind)
    assert PINS.get(kind.kernel) == found, (
        f"the source of kernel {kind.kernel!r} has changed: if the bytes that {kind.__name__} produces may change, "
        f"raise its `kernel` version; then update the pinned digest in PINS:\n"
        f'    "{kind.kernel}": "{found}",  # under the new name, if you raised it'
    )


def imported(module: str) -> Iterator[str]:
    """Modules of shards.learners that a module imports when it runs, not merely for type checkers."""
    tree = tree_of(module)
    hints = [
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in hints and str(node.module).startswith("shards.learners."):
            yield str(node.module)


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
def test_no_module_of_a_kernel_is_left_out(kind: type[Learner]) -> None:
    reached, pending = set[str](), [kind.__module__]
    while pending:
        module = pending.pop()
        if module not in reached and module not in BESIDE:
            reached.add(module)
            pending.extend(imported(module))
    assert reached == {source for source in SOURCES[kind] if ":" not in source}


def test_what_does_not_count() -> None:
    plain = "class A:\n    b = 1\n    def f(self, x):\n        if x: raise E('a')\n        return x + 1\n"
    dressed = (
        '"""M."""\n# c\nclass A:\n    """D."""\n    b = 1\n    """B."""\n'
        "    def f(self, x):\n        if x:\n            raise E('b')\n        return (x\n            + 1)\n"
    )
    assert canonical(ast.parse(plain)) == canonical(ast.parse(dressed))
    for old, new in (("+ 1", "+ 2"), ("+", "-"), ("1", "True"), ("if x", "if not x"), ("raise E", "raise F")):
        assert canonical(ast.parse(plain)) != canonical(ast.parse(plain.replace(old, new)))


# --- seeds and visits ----------------------------------------------------------------------------------------

TASK = Task("regression", {"x": FieldSchema((2,), "<f4")}, FieldSchema((), "<f8"))
CONTEXT = StepContext(TASK, root_seed=5, shard=2, position=3, visits=12)
ORDER = [5, 7, 4, 2, 1, 3, 6, 0, 5, 6, 2, 1]
"""The twelve visits of CONTEXT over eight records, shuffled."""


def test_seeds() -> None:
    assert derive_seed(5, "a", b"a") == 7578752918521157872
    assert derive_seed(5, b"a", "a") != 7578752918521157872
    assert CONTEXT.seed("module") == 1518306262524753039
    assert CONTEXT.seed("train") == 7835219079248724164
    assert [CONTEXT.seed("pass", k) for k in range(2)] == [1718798678162390692, 8076288044014585889]
    assert CONTEXT.seed("transform", bytes(16), 1) == 4892503277919224204


def test_visits() -> None:
    assert [epoch_visits(Fraction(7, 2), n, 3) for n in (1, 2, 3, 100)] == [2, 4, 6, 175]
    recorder = SklearnLearner(user_modules.Recorder(), epochs=3.5, trusted=("user_modules",))
    for ours in (TorchLearner("mlp", epochs="7/2"), recorder):
        assert [ours.visits(n, 3) for n in (1, 2, 3, 100)] == [2, 4, 6, 175]
    assert [count_windows(visits, 4) for visits in (1, 4, 5, 6, 8, 9)] == [1, 1, 1, 2, 2, 2]
    cut = windows(8, 13, 4, lambda k: CONTEXT.seed("pass", k))
    assert [window.tolist() for window in cut] == [[5, 7, 4, 2], [1, 3, 6, 0], [5, 6, 2, 1, 3]]
    cut = windows(8, 12, 5, lambda k: CONTEXT.seed("pass", k))
    assert [record for window in cut for record in window] == ORDER
    cut = windows(5, 11, 4, None)
    assert [window.tolist() for window in cut] == [[0, 1, 2, 3], [4, 0, 1, 2], [3, 4, 0]]


def test_generators() -> None:
    with generators_kept():
        seed_generators(2**62 + 12345)
        drawn = torch.randint(2**31, (3,)).tolist(), np.random.bytes(4).hex(), random.getrandbits(31)
    assert drawn == ([1675701733, 561383553, 170765737], "e251fbed", 1052022771)


def test_schedules() -> None:
    assert [linear(k, 4, 0.5) for k in range(4)] == [1.0, 0.875, 0.75, 0.625]
    assert [step(k, 8, 0.5, 4) for k in range(8)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert [cosine(k, 3, 0.5) for k in range(3)] == pytest.approx([1.0, 0.875, 0.625], rel=1e-15)


def test_moments() -> None:
    mean, std = moments(np.array([[1, 0, 4], [3, 0, 4], [1, 8, 4], [3, 8, 4]], dtype=np.float32))
    assert mean.tolist() == [2.0, 4.0, 4.0]
    assert std.tolist() == [1.0, 4.0, 1.0]


# --- training whose arithmetic is exact ----------------------------------------------------------------------

X = np.array([[1, 0], [2, -1], [0, 4], [-2, 2], [1, 1], [4, -2], [-1, 0], [2, 2]], dtype=np.float32)
Y = np.array([1.0, -2.0, 4.0, 0.5, 2.0, -1.0, 0.0, 8.0])
DATA = StepData({"x": X}, Y, np.zeros((8, 16), dtype=np.uint8))


def test_one_step_of_torch() -> None:
    # output = x·(1/2, -1/4) + 1, on records 0 to 3: 3/2, 9/4, 0, -1/2; errors e = 1/2, 17/4, -4, -1.
    # Gradient of the mean square (2/4) Σ e x = (11, -22.25) / 2, of the bias (2/4) Σ e = -1/8. Rate 1/8.
    ours = TorchLearner("user_modules:Dyadic", optimizer_args={"lr": 0.125}, batch_size=4, shuffle=False)
    state = ours.train_step(None, DATA, StepContext(TASK, root_seed=5, shard=2, position=3, visits=4))
    assert state["module/weight"].tolist() == [0.5 - 11 / 16, -0.25 + 22.25 / 16]
    assert state["module/bias"].tolist() == 1 + 1 / 64


@pytest.mark.parametrize("shuffle", [False, True])
def test_three_steps_of_torch_in_fractions(shuffle: bool) -> None:
    ours = TorchLearner(
        "user_modules:Dyadic",
        optimizer_args={"lr": 0.125, "momentum": 0.5},
        schedule="step",
        schedule_args={"gamma": 0.5, "parts": 3},
        batch_size=4,
        shuffle=shuffle,
    )
    state = ours.train_step(None, DATA, CONTEXT)
    order = ORDER if shuffle else [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]
    w, momentum = [Fraction(1, 2), Fraction(-1, 4), Fraction(1)], [Fraction(0)] * 3
    for k in range(3):
        gradient = [Fraction(0)] * 3
        for i in order[4 * k : 4 * k + 4]:
            x = [Fraction(float(v)) for v in (*X[i], 1)]
            error = sum(a * b for a, b in zip(w, x, strict=True)) - Fraction(Y[i])
            gradient = [g + error * v / 2 for g, v in zip(gradient, x, strict=True)]
        momentum = [m / 2 + g for m, g in zip(momentum, gradient, strict=True)]
        w = [a - m / 8 / 2**k for a, m in zip(w, momentum, strict=True)]
    assert [Fraction(v) for v in [*state["module/weight"].tolist(), state["module/bias"].item()]] == w
    # Drawn by the module when it was made, and during its three calls.
    assert state["module/made"].tolist() == [2144613095, 220388540]
    assert state["module/called"].tolist() == [147398269, 1028614412, 1034541218]


def test_three_steps_of_layers_written_out_in_fractions() -> None:
    ours = MLPLearner((), learning_rate=0.125, momentum=0.5, weight_decay=0.25, batch_size=4)
    w, momentum = [Fraction(1, 2), Fraction(-1, 4), Fraction(1)], [Fraction(0)] * 3
    parent = {
        "weights/0": np.array([[0.5], [-0.25]], dtype=np.float32),
        "biases/0": np.array([1.0], dtype=np.float32),
    }
    state = ours.train_step(parent, DATA, CONTEXT)
    for k in range(3):
        gradient = [a / 4 for a in w]
        for i in ORDER[4 * k : 4 * k + 4]:
            x = [Fraction(float(v)) for v in (*X[i], 1)]
            error = sum(a * b for a, b in zip(w, x, strict=True)) - Fraction(Y[i])
            gradient = [g + error * v / 2 for g, v in zip(gradient, x, strict=True)]
        momentum = [m / 2 + g for m, g in zip(momentum, gradient, strict=True)]
        w = [a - m / 8 for a, m in zip(w, momentum, strict=True)]
    assert [Fraction(float(v)) for v in [*state["weights/0"][:, 0], *state["biases/0"]]] == w
    fresh = MLPLearner((), learning_rate=2.0**-100, epochs=1).train_step(None, DATA, CONTEXT)
    # Drawn from the seed of the step, within 1 / sqrt(2) of zero.
    drawn = np.random.Generator(np.random.PCG64(1518306262524753039)).random(3, dtype=np.float32)
    np.testing.assert_allclose([*fresh["weights/0"][:, 0], *fresh["biases/0"]], (2 * drawn - 1) / 2**0.5, rtol=1e-6)


def test_two_steps_of_sklearn() -> None:
    ours = SklearnLearner(user_modules.Recorder(), batch_size=5, trusted=("user_modules",))
    first = ours.train_step(None, DATA, CONTEXT)
    second = ours.train_step(first, DATA, StepContext(TASK, root_seed=5, shard=2, position=4, visits=3))
    estimator = ours._load(second)
    rows = [int(np.flatnonzero((row == X).all(1))[0]) for row in estimator.seen_]
    assert rows[:12] == ORDER
    assert rows[12:] == [5, 2, 4]
    assert estimator.sizes_ == [5, 5, 2, 3]
    assert estimator.seeds_ == [1148638, 1148638, 1148638, 3838049548]
    assert second["content"].tobytes().hex() == "b975587e55f72140a40ac1e57eca3850af8084b570f40c1531caa6b6303b9eb1"
