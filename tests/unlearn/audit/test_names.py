"""The public names of audits, and what asking for them loads."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import unlearn.audit


def test_every_name_is_there_under_its_own_name() -> None:
    # A module of the same name would take its place as soon as it is imported.
    assert not {*unlearn.audit.__all__} & {module.name for module in pkgutil.iter_modules(unlearn.audit.__path__)}
    for name in unlearn.audit.__all__:
        found = getattr(unlearn.audit, name)
        assert name == "ATTACKS" or found.__name__ == name
    assert set(unlearn.audit.__all__) == {name for names in unlearn.audit._HOMES.values() for name in names}
    assert {*unlearn.audit.__all__, "attacks", "epsilon", "metrics", "shadows"} <= set(dir(unlearn.audit))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        unlearn.audit.nothing  # noqa: B018


def test_names_are_reached_from_the_package_and_load_no_more_than_they_need() -> None:
    code = """
import sys, unlearn
assert "unlearn.audit" not in sys.modules
unlearn.audit
assert not [name for name in sys.modules if name.startswith("unlearn.audit.")]
print(unlearn.audit.shard_label_test.__name__, unlearn.audit.epsilon.__name__, "scipy" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == "shard_label_test unlearn.audit.epsilon False\n"
