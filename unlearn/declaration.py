"""What a workspace is created with: constants that never change, and its secrets.

`workspace.json` holds what may be read by anyone who may read the workspace; `secrets.json`, readable by its
owner only, the keys that make placement and pseudonyms unpredictable. Neither holds anything learnt from data.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.code import code_digest
from shards.digest import Json, digest_json, digest_parts
from shards.ensemble import check_aggregation, usual_aggregation
from shards.files import sync_path
from shards.learners.base import Learner
from shards.location import normal_location
from shards.placement import KEY_BYTES, Region
from shards.private_votes import PrivateVotes
from shards.records import encode_target, is_unicode, to_ids
from shards.train import code_of, describe_learner
from unlearn.errors import ConfigurationError, WorkspaceError

FORMAT = 6
"""Format of the workspace's files; raised when an older version could not read them."""

_WITHOUT_LIMIT = 5
"""Format of a workspace whose approximate method may take as long as it does, which older versions can read."""

_WITHOUT_METHOD = 4
"""Format of one without an approximate method, too, which even older versions can read."""

_WITHOUT_RISKS = 3
"""Format of one without risk classes, too, which even older versions can read."""

_WITHOUT_STORE = 2
"""Format of one whose records and checkpoints are in its folder, too, which the oldest versions can read."""


_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Declaration:
    """The constants.

    Attributes:
        id: Random name of the workspace, 32 hex digits; receipts say which workspace they are about.
        ledger: URL of the PostgreSQL database that holds the ledger, or None: SQLite, inside the folder.
        learner: The learner, described.
        code: Digest of the user's own modules it runs.
        modules: Digest of each of those modules.
        task: `"classification"` or `"regression"`.
        classes: Declared class labels, or None: those of the first batch are declared with it.
        n_shards: S.
        n_slices: R, per batch.
        aggregation: How the shards' outputs are joined; noisy votes with their noise and budget.
        root_seed: Seed of everything random in training.
        store: Path or URL below which records and checkpoints lie, or None: inside the folder.
        risk_classes: Risk class to the first and the last shard and slice its subjects go to, or None: there are no
            classes, and everybody goes anywhere.
        method: The approximate method that forgetting applies, with its configuration, and within how many seconds of
            a request the model is to be retrained after it (`name`, `config`, `escalate_within`), and how many seconds
            it may take (`time_limit`), if that is limited; None: there is none.
    """

    id: str
    ledger: str | None
    learner: Json
    code: str
    modules: dict[str, str]
    task: str
    classes: list[Json] | None
    n_shards: int
    n_slices: int
    aggregation: Json
    root_seed: int
    store: str | None = None
    risk_classes: dict[str, Json] | None = None
    method: Json | None = None

    @property
    def digest(self) -> str:
        """Digest of all of it, for the log and the receipts."""
        return digest_json("description", self.to_json())

    @property
    def trained(self) -> str:
        """What a shard trains, for people, such as `TorchLearner of nets:net` or `MLPLearner`."""
        described: Any = self.learner
        inside = described["params"].get("module", described["params"].get("estimator"))
        if isinstance(inside, dict):
            inside = _last(inside["estimator"])
        return _last(described["class"]) + (f" of {inside}" if isinstance(inside, str) else "")

    def to_json(self) -> dict[str, Json]:
        """All of it as JSON; without a store of its own, risk classes or a method, as it was before there were any."""
        fields = asdict(self)
        for name in ("store", "risk_classes", "method"):
            if fields[name] is None:
                del fields[name]
        return fields

    @property
    def regions(self) -> dict[str, Region] | None:
        """Where subjects of each risk class may go; None: there are no classes."""
        if self.risk_classes is None:
            return None
        return {
            name: Region(*(range(first, last + 1) for first, last in (described["shards"], described["slices"])))
            for name, described in self.risk_classes.items()
        }

    @property
    def votes(self) -> PrivateVotes | None:
        """The noisy vote by which labels are published, if they are."""
        return None if isinstance(self.aggregation, str) else PrivateVotes(**self.aggregation)

    @property
    def schema(self) -> str:
        """Name of the ledger's schema, where it is in PostgreSQL."""
        return f"unlearn_{self.id}"

    def check(self) -> None:
        """Refuse a description whose parts are not of their kind.

        Raises:
            TypeError: If a part is not of its kind.
        """
        whole = (self.n_shards, self.n_slices, self.root_seed)
        text = (self.id, self.learner["class"], self.code, self.task)
        groups = (self.learner["params"], self.modules)
        if not (
            all(type(value) is int for value in whole)
            and all(isinstance(value, str) for value in text)
            and all(isinstance(value, dict) for value in groups)
            and (self.classes is None or isinstance(self.classes, list))
            and (self.ledger is None or isinstance(self.ledger, str))
            and (self.store is None or isinstance(self.store, str))
            and isinstance(self.aggregation, str | dict)
            and _ID.fullmatch(self.id)
        ):
            raise TypeError("a number, a text or a list stands where another kind belongs")
        if self.method is not None:
            within, limit = self.method["escalate_within"], self.method.get("time_limit", 1)
            if not (
                isinstance(self.method["name"], str)
                and isinstance(self.method["config"], dict)
                and (within is None or (type(within) in (int, float) and within > 0))
                and type(limit) in (int, float)
                and limit > 0
                and self.method.keys() - {"time_limit"} == {"name", "config", "escalate_within"}
            ):
                raise TypeError("the method is described in another way than methods are")
        if self.risk_classes is not None:
            for region in (self.regions or {}).values():
                region.within(self.n_shards, self.n_slices)


@dataclass(frozen=True)
class Secrets:
    """The keys.

    Attributes:
        placement: Key of the placement and of the order within slices; workspaces that share it place alike.
        pseudonyms: Key of the tokens in the ledger; always fresh.
    """

    placement: bytes
    pseudonyms: bytes


def declare(
    learner: Learner,
    task: str,
    classes: Sequence[Json] | None,
    *,
    n_shards: int,
    n_slices: int,
    aggregation: str | PrivateVotes | None,
    random_state: int | None,
    ledger: str | None = None,
    store: str | None = None,
    risk_classes: Mapping[str, Region] | None = None,
    method: Json | None = None,
) -> Declaration:
    """Check the constants and write them down.

    Args:
        learner: What every shard trains.
        task: `"classification"` or `"regression"`.
        classes: Every label there may ever be, or None.
        n_shards: S, at least 1.
        n_slices: R, at least 1.
        aggregation: How the shards' outputs are joined; None: as is usual for the learner.
        random_state: Root seed, or None for a random one.
        ledger: URL of a PostgreSQL database, or None for SQLite.
        store: Path or URL below which records and checkpoints are to lie, or None.
        risk_classes: Where subjects of each risk class may go, or None.
        method: The approximate method, described and checked by the caller; or None.

    Returns:
        The constants.

    Raises:
        ConfigurationError: If one does not make sense.
    """
    for name, value in (("n_shards", n_shards), ("n_slices", n_slices)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ConfigurationError(f"{name} must be a whole number of at least 1, got {value!r}")
    if task not in learner.kinds():
        raise ConfigurationError(
            f"task must be {' or '.join(map(repr, learner.kinds()))} here, got {task!r}: that is what the learner "
            "does; give another learner for another task"
        )
    if aggregation is None:
        aggregation = usual_aggregation(learner)
    if isinstance(aggregation, PrivateVotes):
        _check_votes(task, random_state)
    else:
        check_aggregation(aggregation, task, learner)
    labels = None if classes is None else _labels(classes)
    code = code_digest(code_of(learner))
    if ledger is not None:
        from unlearn.ledger.database import check_url

        check_url(ledger)
    return Declaration(
        id=secrets.token_hex(16),
        ledger=ledger,
        learner=describe_learner(learner),
        code=code.source,
        modules=dict(code.modules),
        task=task,
        classes=labels,
        n_shards=int(n_shards),
        n_slices=int(n_slices),
        aggregation=asdict(aggregation) if isinstance(aggregation, PrivateVotes) else aggregation,
        root_seed=secrets.randbits(63) if random_state is None else int(random_state),
        store=None if store is None else normal_location(store),
        risk_classes=None if risk_classes is None else _described(risk_classes, aggregation, n_shards, n_slices),
        method=method,
    )


def _labels(classes: Sequence[Json]) -> list[Json]:
    """Declared classes, such that can be written down and held against targets."""
    try:
        labels: list[Json] = np.asarray(classes).tolist()
    except ValueError as error:
        raise ConfigurationError(f"classes must be one list of texts or numbers: {error}") from error
    if not isinstance(labels, list) or not labels:
        raise ConfigurationError(f"classes must be a list of every label there may ever be, got {classes!r}")
    encode_target(np.array([], dtype=np.int64), "classification", labels)
    for label in labels:
        if (isinstance(label, float) and not math.isfinite(label)) or (
            isinstance(label, str) and not is_unicode([label])
        ):
            raise ConfigurationError(f"class {label!r} is no finite number, and no text that can be written as UTF-8")
    return labels


def _described(
    risk_classes: Mapping[str, Region], aggregation: str | PrivateVotes, n_shards: int, n_slices: int
) -> dict[str, Json]:
    """Risk classes as JSON, checked."""
    if isinstance(aggregation, PrivateVotes):
        raise ConfigurationError(
            "noisy votes promise privacy for a placement that knows nothing of the subjects: leave the risk classes "
            "out, or join the shards in another way"
        )
    if not isinstance(risk_classes, Mapping) or not risk_classes:
        raise ConfigurationError(
            "risk classes are a mapping of one name at least to the region its subjects go to, such as {'often': "
            f"Region(shards=range(2)), 'seldom': Region(shards=range(2, 20))}}, got {risk_classes!r}"
        )
    named = {}
    for name, region in zip(to_ids(list(risk_classes), "risk classes"), risk_classes.values(), strict=True):
        if not isinstance(region, Region):
            raise ConfigurationError(f"the risk class {name!r} needs a shards.placement.Region, got {region!r}")
        try:
            named[name] = region.within(n_shards, n_slices)
        except ConfigurationError as error:
            raise ConfigurationError(f"risk class {name!r}: {error}") from error
    unused = sorted(set(range(n_shards)).difference(*(region.shards or () for region in named.values())))
    if unused:
        raise ConfigurationError(
            f"no risk class may go to shard {unused[0]}, so it would stay empty: declare fewer shards, or a class that "
            "uses it"
        )
    return {
        name: {part: [numbers[0], numbers[-1]] for part, numbers in vars(region).items()}
        for name, region in named.items()
    }


def _check_votes(task: str, random_state: int | None) -> None:
    if task != "classification":
        raise ConfigurationError("noisy votes are for classification: use 'mean' or 'weighted'")
    if random_state is not None:
        raise ConfigurationError(
            "noisy votes promise privacy, and a placement made from random_state is as secret as that number: leave it "
            "out"
        )


def make_secrets(random_state: int | None) -> Secrets:
    """Draw the keys; a `random_state` makes the placement (and nothing else) repeatable.

    Args:
        random_state: Seed for experiments, or None for a fresh secret placement.

    Returns:
        The keys.
    """
    if random_state is None:
        placement = secrets.token_bytes(KEY_BYTES)
    else:
        placement = bytes.fromhex(digest_parts("placement key", [str(random_state).encode()]))
    return Secrets(placement, secrets.token_bytes(KEY_BYTES))


def write(folder: Path, declaration: Declaration, keys: Secrets) -> None:
    """Write both files, synced.

    Args:
        folder: The workspace's folder.
        declaration: The constants.
        keys: The keys.
    """
    _write(folder / "secrets.json", {name: value.hex() for name, value in vars(keys).items()}, 0o600)
    number = _WITHOUT_STORE if declaration.store is None else _WITHOUT_RISKS
    number = number if declaration.risk_classes is None else _WITHOUT_METHOD
    number = number if declaration.method is None else _WITHOUT_LIMIT
    number = number if "time_limit" not in (declaration.method or {}) else FORMAT
    _write(folder / "workspace.json", {"format": number, **declaration.to_json()}, 0o644)
    sync_path(folder)


def read(folder: Path) -> tuple[Declaration, Secrets]:
    """Read both files.

    Args:
        folder: The workspace's folder.

    Returns:
        The constants and the keys.

    Raises:
        WorkspaceError: If the folder is no workspace, is of a newer format, or its files are damaged.
    """
    path = folder / "workspace.json"
    if not path.is_file():
        raise WorkspaceError(f"{folder} is not a workspace: create one there with `unlearn create` or Workspace.create")
    fields = _read(path)
    if not isinstance(fields, dict) or type(fields.get("format")) is not int:
        raise WorkspaceError(f"{path} is damaged: it names no format; restore it from a copy")
    number = fields.pop("format")
    if number < _WITHOUT_STORE:
        raise WorkspaceError(
            f"{folder} is of format {number}, of a version before the first release, which had no log and no receipts: "
            "create a new workspace and ingest the records again"
        )
    if number > FORMAT:
        raise WorkspaceError(
            f"{folder} was written by a newer version of this program (this one knows format {FORMAT}): "
            "upgrade to open it"
        )
    keys = _read(folder / "secrets.json")
    try:
        found = Declaration(**fields)
        found.check()
        return found, Secrets(**{name: bytes.fromhex(value) for name, value in keys.items()})
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise WorkspaceError(f"the description of {folder} is damaged ({error!r}): restore it from a copy") from error


def _write(path: Path, value: Json, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}): restore it from a copy") from error


def _last(reference: str) -> str:
    """The name at the end of `package.module:Name`."""
    return reference.rpartition(":")[2].rpartition(".")[2]
