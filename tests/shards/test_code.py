"""References and code digests, compared with what a fresh interpreter really imports."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from shards.code import CodeDigest, changed, code_digest, reference, resolve
from shards.errors import CodeError

Tree = Callable[[Mapping[str, str]], Path]

PROJECT = {
    "proj/__init__.py": "FLAG = 1\n",
    "proj/models.py": """
        from . import layers
        from .deep.inner import helper as renamed
        import numpy, os.path

        class Model:
            class Inner:
                pass

            @classmethod
            def make(cls): ...

            @staticmethod
            def plain(): ...

        def build():
            import late
            return late.VALUE

        def outer():
            def inner(): ...
            return inner

        anonymous = lambda: 0
        """,
    "proj/layers.py": "from proj import models\nfrom .constants import *\n",
    "proj/constants.py": "RATE = 0.1\n",
    "proj/deep/__init__.py": "",
    "proj/deep/inner.py": "from .. import sibling\nfrom ...beyond import nothing\ndef helper(): ...\n",
    "proj/sibling.py": "import importlib\nf = lambda: importlib.import_module('.named', 'proj')\n",
    "proj/named.py": "",
    "proj/unrelated.py": "import proj.also_unrelated\n",
    "proj/also_unrelated.py": "",
    "late.py": "import spaces.nested.leaf\nVALUE = 1\n",
    "spaces/nested/leaf.py": "import optional_and_absent\n",
}

REACHED = {
    "proj",
    "proj.models",
    "proj.layers",
    "proj.constants",
    "proj.deep",
    "proj.deep.inner",
    "proj.sibling",
    "proj.named",
    "late",
    "spaces.nested.leaf",
}


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.split("\n")
        indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        path.write_text("\n".join(line[indent:] for line in lines))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write files below a fresh directory on the path; forget their modules afterwards."""
    before = set(sys.modules)
    root = tmp_path / "src"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))

    def make(files: Mapping[str, str]) -> Path:
        write(root, files)
        return root

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


# --- digest --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(PROJECT))
def test_editing_changes_the_digest_exactly_if_the_module_is_reached(tree: Tree, path: str) -> None:
    root = tree(PROJECT)
    old = code_digest(["proj.models:build"])
    assert set(old.modules) == REACHED
    # A comment counts as well: telling what cannot matter from what can is not the digest's business.
    (root / path).write_text((root / path).read_text() + "# edited\n")
    new = code_digest(["proj.models:build"])
    reached = module_of(path) in REACHED
    assert (new.digest != old.digest) == reached
    assert changed(old, new) == ([f"module {module_of(path)} was edited"] if reached else [])


def test_nothing_is_executed(tree: Tree) -> None:
    tree(
        {
            "boom/__init__.py": "raise SystemExit",
            "boom/a.py": "import boom.b\nraise SystemExit",
            "boom/b.py": "1/0",
        }
    )
    assert set(code_digest(["boom.a:f"]).modules) == {"boom", "boom.a", "boom.b"}
    assert not [name for name in sys.modules if name.startswith("boom")]


@pytest.mark.parametrize("seed", range(6))
def test_closure_holds_all_that_an_interpreter_imports(tree: Tree, seed: int) -> None:
    """Random graphs of packages with cycles: the digest covers what running the imports really loads."""
    rng = random.Random(seed)
    packages = ["", "p.", "p.q.", "ns.", "ns.r."]
    modules = [f"{rng.choice(packages)}m{i}" for i in range(12)]
    files = {"p/__init__.py": "", "p/q/__init__.py": "", "ns/r/__init__.py": f"import {modules[0]}\n"}
    for name in modules:
        parent, _, _ = name.rpartition(".")
        lines = []
        for target in rng.sample(modules, 2):
            above, _, leaf = target.rpartition(".")
            forms = [f"import {target}"]
            if above:
                forms += [f"from {above} import {leaf}", f"from {target} import __name__ as unused"]
            if above and above == parent:
                forms += [f"from . import {leaf}", f"from .{leaf} import __doc__ as unused"]
            lines.append(rng.choice(forms))
        files[name.replace(".", "/") + ".py"] = "\n".join(lines) + "\n"
    root = tree(files)
    script = (
        f"import sys, json; sys.path.insert(0, {str(root)!r}); import {modules[0]}\n"
        "files = {name: getattr(module, '__file__', None) or '' for name, module in sys.modules.items()}\n"
        f"print(json.dumps([name for name, file in files.items() if file.startswith({str(root)!r})]))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert set(code_digest([f"{modules[0]}:f"]).modules) == set(json.loads(loaded))


def test_a_module_written_since_the_last_look_is_seen(tree: Tree) -> None:
    root = tree({"user.py": "try:\n    import plugin\nexcept ImportError:\n    pass\n"})
    old = code_digest(["user:f"])
    listed = root.stat()
    tree({"plugin.py": ""})
    os.utime(root, ns=(listed.st_atime_ns, listed.st_mtime_ns))  # as on a file system with a coarse clock
    assert changed(old, code_digest(["user:f"])) == ["module plugin is newly imported"]


def test_place_order_and_line_ends_do_not_matter(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(PROJECT)
    refs = ["proj.models:build", "late:VALUE", "proj.unrelated:x"]
    old = code_digest(refs)
    assert code_digest(reversed(refs)) == old
    elsewhere = root.rename(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(str(elsewhere))
    path = elsewhere / "proj/models.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert code_digest(refs) == old


def test_archives_are_read(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(PROJECT)
    old = code_digest(["proj.models:build"])
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.rglob("*.py")):
            if "spaces" not in path.parts:  # archives need entries for directories of namespace packages
                file.write(path, path.relative_to(root))
    for path in (root / "late.py", *root.glob("proj/**/*.py")):
        path.unlink()
    monkeypatch.syspath_prepend(str(archive))
    assert code_digest(["proj.models:build"]) == old


def test_portions_of_a_namespace_package_are_joined(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree({"ns/sub/a.py": "import ns.sub.b"})
    write(tmp_path / "other", {"ns/sub/b.py": ""})
    monkeypatch.syspath_prepend(str(tmp_path / "other"))
    assert set(code_digest(["ns.sub.a:f"]).modules) == {"ns.sub.a", "ns.sub.b"}


def test_editable_install_through_a_finder(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import spec_from_file_location

    write(tmp_path / "checkout", {"core.py": "import edited_helper"})
    tree({"edited_helper.py": ""})

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None):
            return spec_from_file_location(name, tmp_path / "checkout/core.py") if name == "edited" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert set(code_digest(["edited:f"]).modules) == {"edited", "edited_helper"}


def test_all_of_a_package_counts_as_imported(tree: Tree) -> None:
    tree(
        {
            "pkg/__init__.py": "__all__ = ['a', 'name']\n",
            "pkg/a.py": "",
            "pkg/b.py": "",
            "user.py": "from pkg import *\n",
        }
    )
    assert set(code_digest(["user:f"]).modules) == {"user", "pkg", "pkg.a"}


def test_third_party_counts_by_version(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy
    import pyarrow
    import sklearn

    tree({"user.py": "import numpy, pyarrow.compute, json\nfrom sklearn import svm\nfrom thing.part import f"})
    site = tmp_path / "venv" / "site-packages"
    metadata = site / "The_Thing-1.0.dist-info"
    write(
        site,
        {
            "thing/__init__.py": "",
            "thing/part.py": "import never_followed",
            f"{metadata.name}/METADATA": "Metadata-Version: 2.1\nName: The_Thing\nVersion: 1.0\n",
            f"{metadata.name}/RECORD": "thing/__init__.py,,\nthing/part.py,,\n",
        },
    )
    monkeypatch.syspath_prepend(str(site))
    old = code_digest(["user:f"])
    versions = {"numpy": numpy.__version__, "pyarrow": pyarrow.__version__, "scikit-learn": sklearn.__version__}
    assert old.distributions == {**versions, "the-thing": "1.0"}
    assert set(old.modules) == {"user"}
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: The_Thing\nVersion: 1.1\n")
    new = code_digest(["user:f"])
    assert new.digest != old.digest
    assert changed(old, new) == ["distribution the-thing: 1.0 → 1.1"]


def test_installed_file_without_a_distribution_is_hashed(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree({"user.py": "import stray"})
    write(tmp_path / "site-packages", {"stray.py": "import deeper_stray", "deeper_stray.py": ""})
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    assert set(code_digest(["user:f"]).modules) == {"user", "stray", "deeper_stray"}


def test_extension_modules_count_by_their_bytes(tree: Tree) -> None:
    from importlib.machinery import EXTENSION_SUFFIXES

    root = tree({"user.py": "import fast"})
    library = root / f"fast{EXTENSION_SUFFIXES[0]}"
    library.write_bytes(b"\x7fELF one\r\n")
    old = code_digest(["user:f"])
    library.write_bytes(b"\x7fELF one\n")
    assert changed(old, code_digest(["user:f"])) == ["module fast was edited"]


def test_a_file_that_shadows_the_standard_library_is_the_users(tree: Tree) -> None:
    root = tree({"user.py": "import statistics", "statistics.py": ""})
    old = code_digest(["user:f"])
    assert set(old.modules) == {"user", "statistics"}
    (root / "statistics.py").write_text("mean = max")
    assert code_digest(["user:f"]).digest != old.digest


def test_own_packages_are_hashed_only_where_named(tree: Tree) -> None:
    tree({"user.py": "import shards.digest"})
    assert set(code_digest(["user:f"]).modules) == {"user"}
    assert set(code_digest(["shards.task:Task", "user:f"]).modules) == {"user", "shards.task"}


@pytest.mark.parametrize(
    "ref", ["os:system", "builtins:eval", "__main__:f", "missing:f", "ns:f", "json.tool:main", "no colon"]
)
def test_digest_refuses(tree: Tree, ref: str) -> None:
    tree({"ns/a.py": ""})
    with pytest.raises(CodeError):
        code_digest([ref])


def test_digest_needs_readable_source(tree: Tree) -> None:
    import py_compile

    root = tree({"bare.py": "", "broken.py": "def", "user.py": "import bare"})
    py_compile.compile(str(root / "bare.py"), cfile=str(root / "bare.pyc"), doraise=True)
    (root / "bare.py").unlink()
    with pytest.raises(CodeError, match="'bare' has no source file"):
        code_digest(["user:f"])
    with pytest.raises(CodeError, match=r"'broken'.*not valid Python"):
        code_digest(["broken:f"])


def test_changed_says_what_came_and_went() -> None:
    old = CodeDigest("1", {"a": "1", "b": "1", "c": "1"}, {"x": "1", "y": "2"})
    new = CodeDigest("2", {"b": "1", "c": "2", "d": "1"}, {"y": "2", "z": "3"})
    assert changed(old, new) == [
        "module a is no longer imported",
        "module c was edited",
        "module d is newly imported",
        "distribution x: 1 → not imported",
        "distribution z: not imported → 3",
    ]
    assert changed(old, old) == []


# --- names ---------------------------------------------------------------------------------------------------


def test_reference_and_resolve_are_inverse(tree: Tree) -> None:
    tree({**PROJECT, "proj/deep/inner.py": "def helper(): ...", "spaces/nested/leaf.py": ""})
    from proj import models  # type: ignore[import-not-found]

    for qualname in ("build", "Model", "Model.Inner", "Model.make", "Model.plain"):
        obj = models
        for name in qualname.split("."):
            obj = getattr(obj, name)
        assert reference(obj) == f"proj.models:{qualname}"
        assert resolve(reference(obj)) == obj
    assert resolve("proj.models:renamed") is resolve("proj.deep.inner:helper")


def test_reference_refuses_what_has_no_name(tree: Tree) -> None:
    tree({**PROJECT, "proj/deep/inner.py": "def helper(): ...", "spaces/nested/leaf.py": ""})
    from proj import models

    def in_main() -> None: ...

    in_main.__module__, in_main.__qualname__ = "__main__", "in_main"
    refused = {
        "a lambda of module": models.anonymous,
        "defined inside a function": models.outer(),
        "running script or a notebook cell": in_main,
        "an instance of Model": models.Model(),
        "an instance of method": models.Model().__init__,
        "an instance of partial": partial(models.build),
        "belongs to no module": [].append,
        "'posix'|'nt'": os.system,
        "builtins": len,
    }
    for message, obj in refused.items():
        with pytest.raises(CodeError, match=message):
            reference(obj)
    models.build, stale = (lambda: 0), models.build
    with pytest.raises(CodeError, match="names something else"):
        reference(stale)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("os:system", "standard library"),
        ("os.path:join", "standard library"),
        ("subprocess:Popen", "standard library"),
        ("builtins:exec", "standard library"),
        ("test.support:run_doctest", "standard library"),  # not in sys.stdlib_module_names
        ("__main__:main", "machinery"),
        ("evil.__main__:f", "machinery"),
        ("evil:os.system", "'os' is a module"),
        ("evil:os", "'os' is a module"),
        ("evil:system", "standard library"),
        ("evil:Path", "standard library"),
        ("evil:Path.unlink", "standard library"),
        ("evil:Thread.start", "standard library"),
        ("evil:bound", "instance of partial"),
        ("evil:items.append", "instance of list"),
        ("evil:Thread.mro", "instance of builtin"),
        ("evil:f.g", "inside a function"),
        ("evil:f.__globals__", "machinery"),
        ("evil:ff", "did you mean 'f'"),
        ("evil:f.", "is not a reference"),
        ("evil", "is not a reference"),
        ("evil:", "is not a reference"),
        (":f", "is not a reference"),
        ("evil:f()", "is not a reference"),
        ("../evil:f", "is not a reference"),
        ("evil:f:g", "is not a reference"),
        ("evil:lambda", "is not a reference"),
        ("missing.module:f", "no module 'missing'"),
        ("evil.missing:f", "no module 'evil.missing'"),
        ("needy:f", "imports 'not_installed_here'"),
        ("broken:f", "cannot be imported"),
    ],
)
def test_resolve_refuses(tree: Tree, ref: str, message: str) -> None:
    tree(
        {
            "evil/__init__.py": """
                import functools, os, threading
                from os import system
                from pathlib import Path
                bound = functools.partial(os.system, 'true')
                items = []
                class Thread(threading.Thread): ...
                def f(): ...
                """,
            "evil/__main__.py": "raise SystemExit",
            "needy.py": "import not_installed_here",
            "broken.py": "def",
        }
    )
    with pytest.raises(CodeError, match=message):
        resolve(ref)


def test_resolve_gives_what_the_user_wrote(tree: Tree) -> None:
    tree({"mine.py": "def _private(): return 7\nclass Net: ...\n"})
    assert resolve("mine:_private")() == 7
    assert resolve("mine:Net").__name__ == "Net"
    tree({"raising.py": "1 / 0"})
    with pytest.raises(ZeroDivisionError):
        resolve("raising:f")
