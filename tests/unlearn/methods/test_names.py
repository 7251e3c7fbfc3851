"""The registry and the public names of methods, and what asking for them loads."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import subprocess
import sys

import pytest

import unlearn.methods
from unlearn.methods import METHODS
from unlearn.methods.base import Guarantee


def test_every_method_is_registered_under_its_name_and_reached_from_the_package() -> None:
    for name, method in METHODS.items():
        assert method.card.name == name == method.function.__name__
        assert getattr(unlearn.methods, name) is method.function
        assert getattr(unlearn.methods, method.config.__name__) is method.config
        assert {name, method.config.__name__} <= set(unlearn.methods.__all__) <= set(dir(unlearn.methods))
    assert len(METHODS) == len(list(METHODS))
    assert "nothing" not in METHODS
    with pytest.raises(KeyError):
        METHODS["nothing"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        unlearn.methods.nothing  # noqa: B018


def test_names_are_the_same_for_the_type_checker() -> None:
    tree = ast.parse(inspect.getsource(unlearn.methods))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {name.name for node in checked.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert imported | {"METHODS"} == set(unlearn.methods.__all__)
    assert set(unlearn.methods._HOMES) == imported


def test_no_module_takes_the_place_of_a_function() -> None:
    assert not set(unlearn.methods.__all__) & {module.name for module in pkgutil.iter_modules(unlearn.methods.__path__)}


def test_nothing_is_called_exact_by_mistake() -> None:
    assert {name for name, method in METHODS.items() if method.card.guarantee is Guarantee.EXACT} == {"retrain"}


def test_asking_for_the_names_loads_nothing_and_for_one_method_no_other() -> None:
    code = """
import sys, unlearn
unlearn.methods
assert "torch" not in sys.modules
assert len(unlearn.methods.METHODS) > 10 and "scrub" in unlearn.methods.METHODS
assert "torch" not in sys.modules
unlearn.methods.fine_tune
print(*sorted(name for name in sys.modules if name.startswith("unlearn.methods.papers.")))
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == "unlearn.methods.papers.fine_tuning\n"


def test_without_torch_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["torch"] = None
import unlearn
try:
    unlearn.methods.scrub
except unlearn.UnlearnError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == "methods need torch: pip install 'sisa-unlearn[torch]'\n"
