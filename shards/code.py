"""Names and digests of the user's code: what a workspace may call, and what that code consists of.

A workspace describes code as data, `"package.module:qualname"`. `reference` makes such a name, `resolve`
turns it back into a function or class and refuses names that data must not be able to reach. `code_digest`
says which code a name stands for: the files of every first-party module it can import, found by reading the
import statements without running them.

What the digest cannot see: modules whose names are computed at run time, changes to `sys.path` or `__path__`
made by the code itself, and data files the code reads. Comments and blank lines count, imports for type
checkers too: a digest that changes too often costs a rebuild, one that changes too seldom costs the truth.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import keyword
import os
import pkgutil
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from shards.digest import digest_json, digest_parts
from shards.errors import CodeError

_HINT = "put it into a file that can be imported, and import it from there"

OWN = frozenset({"shards", "unlearn"})
"""Packages that kernel versions stand for; only their modules that a reference names are hashed."""

_WELL_KNOWN = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "torchvision": "torchvision",
}
"""Import name to distribution, for the usual ones: saves reading the file lists of all distributions."""

_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True)
class CodeDigest:
    """What a set of references consists of.

    Attributes:
        digest: Hex SHA-256 over the two maps below.
        modules: First-party module name to hex SHA-256 of its file's content.
        distributions: Third-party distribution (normalised name) to version.
    """

    digest: str
    modules: Mapping[str, str]
    distributions: Mapping[str, str]

    @property
    def source(self) -> str:
        """Digest of the first-party modules alone; versions of distributions belong to the environment."""
        return digest_json("source", dict(self.modules))


def reference(obj: object) -> str:
    """Name an importable function or class.

    Args:
        obj: A class, a function, or a class method, defined at the top level of a module or inside a class.

    Returns:
        `"package.module:qualname"`, for which `resolve` gives `obj` back.

    Raises:
        CodeError: If no other process could find the object by a name: lambdas, closures, what was defined
            in `__main__` or a notebook cell, instances, builtins, the standard library.
    """
    if not _nameable(obj):
        raise CodeError(
            f"an instance of {type(obj).__qualname__} has no name of its own, only functions and classes have: "
            f"write a function that returns it, {_HINT}"
        )
    module = getattr(obj, "__module__", None)
    qualname = str(getattr(obj, "__qualname__", ""))
    if not isinstance(module, str):
        raise CodeError(f"{obj!r} belongs to no module: wrap it in a function of your own, {_HINT}")
    if "<lambda>" in qualname:
        raise CodeError(f"a lambda of module {module!r} has no name: make it a function with `def`, {_HINT}")
    if "<locals>" in qualname:
        raise CodeError(f"{qualname!r} of module {module!r} is defined inside a function, out of reach: {_HINT}")
    if module == "__main__":
        raise CodeError(f"{qualname!r} is defined in the running script or a notebook cell: {_HINT}")
    ref = f"{module}:{qualname}"
    if resolve(ref) != obj:
        raise CodeError(
            f"{ref!r} now names something else than {obj!r}: reload the module, or give it a name of its own"
        )
    return ref


def resolve(ref: str) -> Any:
    """Import what a reference names.

    Importing runs the module's top level, so errors of the user's own code may be raised besides.

    Args:
        ref: `"package.module:qualname"`.

    Returns:
        The function, class or class method.

    Raises:
        CodeError: If the reference is malformed, leads to nothing, to something that is neither function nor
            class, or into the standard library, which a description must not be able to call.
    """
    module_name, qualname = _split(ref)
    _refuse_stdlib(ref, module_name)
    try:
        current: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise CodeError(_not_found(ref, error.name)) from error
        raise CodeError(
            f"{ref!r}: module {module_name!r} imports {error.name!r}, which is not there: "
            "install it or repair the import"
        ) from error
    except (ImportError, SyntaxError) as error:
        raise CodeError(f"{ref!r}: module {module_name!r} cannot be imported ({error}): repair it") from error
    where = f"module {module_name!r}"
    for name in qualname.split("."):
        current = _attribute(ref, current, name, where)
        where = f"class {name!r} in {where}"
    return current


_CALLABLE = (
    *("shards.", "torch.nn.", "torch.optim."),
    *("torchvision.models.", "torchvision.transforms.", "torchvision.ops."),
)
"""Modules of installed packages that only make models, optimisers and augmentations."""


def resolve_callable(ref: str) -> Any:
    """Resolve a reference whose object will be called with arguments that stand in a workspace's description.

    Beside the user's own files only modules that make models are open: an installed package may well hold a
    function that loads a pickle or deletes a file, if a hostile description names it.

    Args:
        ref: Reference `"package.module:qualname"`.

    Returns:
        The function or class.

    Raises:
        CodeError: If it leads nowhere, or into another installed package.
    """
    found = resolve(ref)
    home = f"{getattr(found, '__module__', '')}."
    chain = _chain(home[:-1])
    if home.startswith(_CALLABLE) or (chain and _kind(chain[-1]) == "first-party"):
        return found
    raise CodeError(
        f"{ref!r} is defined in {home[:-1]}, an installed package whose functions are not called on a description's "
        "word: call it in a function of your own, in a file of yours, and name that"
    )


def code_digest(refs: Iterable[str]) -> CodeDigest:
    """Digest all code that references can reach by import statements; nothing is executed.

    First-party is what lies neither in the standard library nor in a `site-packages` directory; editable
    installs are first-party. Its modules are hashed file by file with line ends normalised, parents'
    `__init__` included, and their imports followed. Of third-party packages the distribution's version
    counts; one that no distribution owns is treated as first-party.

    Args:
        refs: References `"package.module:qualname"`, in any order.

    Returns:
        The digest, equal wherever module names, contents and versions are equal, wherever the files lie.

    Raises:
        CodeError: If a referenced module cannot be found, belongs to the standard library, or a first-party
            module has no readable source file.
    """
    # Files may have been written since a directory was last listed, within the clock's granularity.
    importlib.invalidate_caches()
    roots = set()
    for ref in sorted(set(refs)):
        module, _ = _split(ref)
        _refuse_stdlib(ref, module)
        found = _chain(module)
        if not found or found[-1].name != module or _kind(found[-1]) == "namespace":
            raise CodeError(_not_found(ref, module))
        roots.add(module)
    modules: dict[str, str] = {}
    distributions: dict[str, str] = {}
    pending, seen = sorted(roots), set[str]()
    while pending:
        for spec in _chain(pending.pop()):
            if spec.name in seen or (_root(spec.name) in OWN and spec.name not in roots):
                continue
            seen.add(spec.name)
            # Our own modules are hashed however they were installed, so that a digest means the same everywhere.
            kind = "first-party" if _root(spec.name) in OWN else _kind(spec)
            owners = _owners(_root(spec.name), tuple(sys.path)) if kind == "third-party" else {}
            distributions.update(owners)
            if kind == "first-party" or (kind == "third-party" and not owners):
                modules[spec.name], imports = _read(spec)
                pending.extend(imports - seen)
    content = {"modules": dict(sorted(modules.items())), "distributions": dict(sorted(distributions.items()))}
    return CodeDigest(digest_json("code", content), **content)


def changed(old: CodeDigest, new: CodeDigest) -> list[str]:
    """Say in words which modules and distributions differ.

    Args:
        old: Digest as recorded.
        new: Digest as found now.

    Returns:
        One phrase for each difference, modules first, sorted by name; empty if the digests are equal.
    """
    phrases = []
    for name in sorted(old.modules.keys() | new.modules.keys()):
        if name not in new.modules:
            phrases.append(f"module {name} is no longer imported")
        elif name not in old.modules:
            phrases.append(f"module {name} is newly imported")
        elif old.modules[name] != new.modules[name]:
            phrases.append(f"module {name} was edited")
    for name in sorted(old.distributions.keys() | new.distributions.keys()):
        before, now = old.distributions.get(name), new.distributions.get(name)
        if before != now:
            phrases.append(f"distribution {name}: {before or 'not imported'} → {now or 'not imported'}")
    return phrases


# --- names ---------------------------------------------------------------------------------------------------


def _split(ref: str) -> tuple[str, str]:
    """Split a reference into module and qualname, after checking every part of both."""
    module, colon, qualname = ref.partition(":")
    parts = [*module.split("."), *qualname.split(".")]
    if not colon or not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
        raise CodeError(f"{ref!r} is not a reference: write it as 'package.module:name'")
    special = [part for part in parts if part.startswith("__") and part.endswith("__")]
    if special:
        raise CodeError(
            f"{ref!r}: {special[0]!r} is a name of Python's own machinery: "
            "name a function or class of an ordinary module"
        )
    return module, qualname


def _root(name: str) -> str:
    """First part of a dotted name."""
    return name.partition(".")[0]


def _not_found(ref: str, missing: str) -> str:
    """What to say about a module that is nowhere on the path."""
    return (
        f"{ref!r}: no module {missing!r} on Python's path: check the spelling, install it, "
        "or start Python in the directory that holds it"
    )


def _nameable(obj: object) -> bool:
    """Whether an object is of a kind that is found by its name: class, function, class method."""
    if inspect.ismethod(obj):
        return inspect.isclass(obj.__self__)
    return inspect.isclass(obj) or inspect.isfunction(obj) or inspect.isbuiltin(obj)


def _attribute(ref: str, holder: Any, name: str, where: str) -> Any:
    """Take one step of a qualname, refusing what data must not reach."""
    if not isinstance(holder, ModuleType) and not inspect.isclass(holder):
        raise CodeError(f"{ref!r}: cannot look for {name!r} inside a function: name a module's or a class's attribute")
    try:
        found = getattr(holder, name)
    except AttributeError as error:
        near = difflib.get_close_matches(name, [key for key in vars(holder) if isinstance(key, str)], n=1)
        hint = f"did you mean {near[0]!r}?" if near else "check the spelling, or define it there"
        raise CodeError(f"{ref!r}: {where} has no {name!r}: {hint}") from error
    if isinstance(found, ModuleType):
        raise CodeError(f"{ref!r}: {name!r} is a module: write the module it names before the colon")
    origin = getattr(found, "__module__", None)
    if not _nameable(found) or not isinstance(origin, str):
        raise CodeError(
            f"{ref!r}: {name!r} in {where} is an instance of {type(found).__qualname__}: name a function or a class"
        )
    _refuse_stdlib(ref, origin)
    return found


def _refuse_stdlib(ref: str, module: str) -> None:
    """Refuse a module of the standard library, by its name and by where it lies.

    The list of names omits the library's own tests, which can start processes as well.

    Args:
        ref: The reference under way, for the message.
        module: Module to judge; only its first part matters.

    Raises:
        CodeError: If it is the standard library's, or `__main__`.
    """
    root = _root(module)
    chain = _chain(root)
    if root in sys.stdlib_module_names or root == "__main__" or (chain and _kind(chain[0]) == "stdlib"):
        raise CodeError(
            f"{ref!r} leads to {module!r}, a name of the standard library or of the running script, which a "
            "reference may not use: write a function of your own, in a module with another name"
        )


# --- finding modules -----------------------------------------------------------------------------------------


def _chain(name: str) -> list[ModuleSpec]:
    """Find a module and its parents without importing any of them.

    Args:
        name: Dotted name.

    Returns:
        Specs from the top-level package downwards, as far as they were found.
    """
    chain: list[ModuleSpec] = []
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        inside = None if not chain else chain[-1].submodule_search_locations
        if not parts[depth - 1] or (chain and inside is None):
            break
        spec = _find(".".join(parts[:depth]), None if inside is None else list(inside))
        if spec is None:
            break
        chain.append(spec)
    return chain


def _find(name: str, inside: list[str] | None) -> ModuleSpec | None:
    """Find one module, as the import system would.

    Args:
        name: Dotted name.
        inside: Directories of the parent package; None for a top-level module.

    Returns:
        Its spec, or None.
    """
    # PathFinder expects the parents of a nested namespace package to be imported already.
    spec = None if inside is None else _find_inside(name, inside)
    for finder in sys.meta_path:
        if spec is not None:
            break
        if (inside is None or finder is not PathFinder) and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, inside)
    return spec


def _find_inside(name: str, directories: list[str]) -> ModuleSpec | None:
    """Find a submodule in its parent's directories; portions of a namespace package are joined."""
    portions: list[str] = []
    for directory in directories:
        importer = pkgutil.get_importer(directory)
        spec = None if importer is None else importer.find_spec(name)
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None:
            portions.extend(spec.submodule_search_locations or [])
    if not portions:
        return None
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace


def _kind(spec: ModuleSpec) -> Literal["namespace", "stdlib", "third-party", "first-party"]:
    """Say whose a module is, by where it lies: a file of the user's may bear a standard library's name."""
    if not spec.origin and spec.submodule_search_locations is not None:
        return "namespace"
    path = Path(spec.origin or "")
    if not path.is_file() and _root(spec.name) in sys.stdlib_module_names:
        return "stdlib"
    if _INSTALLED.intersection(path.parts):
        return "third-party"
    return "stdlib" if any(Path(os.path.realpath(path)).is_relative_to(base) for base in _stdlib()) else "first-party"


@lru_cache(maxsize=1)
def _stdlib() -> tuple[str, ...]:
    """Directories of the standard library."""
    paths = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return tuple(sorted(os.path.realpath(path) for path in paths))


@lru_cache(maxsize=8)
def _providers(path: tuple[str, ...]) -> Mapping[str, list[str]]:  # noqa: ARG001 - the cache's key
    """Import name to distributions. Slow: opens every distribution's list of files."""
    from importlib.metadata import packages_distributions

    return packages_distributions()


def _owners(root: str, path: tuple[str, ...]) -> dict[str, str]:
    """Distributions that own a top-level name, with their versions.

    Args:
        root: Top-level import name.
        path: The present `sys.path`.

    Returns:
        Normalised distribution name to version; empty if none owns the name.
    """
    from importlib.metadata import PackageNotFoundError, version

    names = [_WELL_KNOWN[root]] if root in _WELL_KNOWN else _providers(path).get(root, [])
    owners = {}
    for name in names:
        try:
            owners[re.sub(r"[-_.]+", "-", name).lower()] = version(name)
        except PackageNotFoundError:
            continue
    return owners


# --- reading modules -----------------------------------------------------------------------------------------


def _read(spec: ModuleSpec) -> tuple[str, set[str]]:
    """Digest a first-party module's file and list what it imports.

    Args:
        spec: Where the module lies.

    Returns:
        Hex SHA-256, and dotted names that may be modules; empty for an extension module.

    Raises:
        CodeError: If there is no source, or it cannot be read.
    """
    origin = spec.origin or ""
    if origin.endswith(tuple(EXTENSION_SUFFIXES)):
        return digest_parts("extension module", [_bytes(spec, origin)]), set()
    if not origin.endswith(tuple(SOURCE_SUFFIXES)):
        raise CodeError(f"module {spec.name!r} has no source file ({origin or 'made at run time'}): {_HINT}")
    source = _bytes(spec, origin).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise CodeError(f"module {spec.name!r} ({origin}) is not valid Python ({error}): repair it") from error
    is_package = spec.submodule_search_locations is not None
    return digest_parts("source module", [source]), set(_imports(tree, spec.name, is_package))


def _bytes(spec: ModuleSpec, origin: str) -> bytes:
    """Read a module's file, from disk or out of an archive."""
    from_archive = getattr(spec.loader, "get_data", None)
    try:
        if not Path(origin).is_file() and from_archive is not None:
            return bytes(from_archive(origin))
        return Path(origin).read_bytes()
    except OSError as error:
        raise CodeError(f"module {spec.name!r}: {origin} cannot be read ({error}): {_HINT}") from error


def _imports(tree: ast.Module, name: str, is_package: bool) -> Iterator[str]:
    """List the names a module imports, at any depth of its code.

    `from a import b` gives both `a` and `a.b`: only the search can tell whether `b` is a module. What a
    package lists in `__all__` counts as imported, since `from package import *` imports it.

    Args:
        tree: The parsed module.
        name: Its dotted name.
        is_package: Whether it is a package's `__init__`.

    Yields:
        Absolute dotted names.
    """
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(module=module, names=aliases, level=level):
                base = _absolute(package, level, module or "")
                if base:
                    yield base
                    yield from (f"{base}.{alias.name}" for alias in aliases if alias.name != "*")
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ):
                bare = target.lstrip(".")
                yield _absolute(package, len(target) - len(bare), bare)
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=listed)
                | ast.AnnAssign(target=ast.Name(id="__all__"), value=listed)
                | ast.AugAssign(target=ast.Name(id="__all__"), value=listed)
            ) if is_package and listed is not None:
                constants = (item.value for item in ast.walk(listed) if isinstance(item, ast.Constant))
                yield from (f"{name}.{value}" for value in constants if isinstance(value, str))


def _absolute(package: str, level: int, module: str) -> str:
    """Absolute name of an import, `""` if it leads above the top-level package.

    Args:
        package: Package the import stands in; `""` for a top-level module.
        level: Leading dots.
        module: What follows them.

    Returns:
        Dotted name.
    """
    if level == 0:
        return module
    parents = package.split(".") if package else []
    if level > len(parents):
        return ""
    return ".".join([*parents[: len(parents) - level + 1], *([module] if module else [])])
