"""What the log comes to. Pure: events in, the state they tell of out.

The tables of the ledger are kept for quick answers; this is where those answers come from. Whoever verifies a
workspace compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from shards.digest import Json
from unlearn.errors import DamageError, UnlearnError
from unlearn.facts import MEASURES, NOT_MADE, STAGE, EditState, check_move
from unlearn.ledger.chain import Entry
from unlearn.ledger.events import FIELDS, Event
from unlearn.ledger.radix import EMPTY
from unlearn.request import CERTIFIED, FAILURES, NOT_APPLIED, RequestState, check_transition


class Built(NamedTuple):
    """A built step, as its event says."""

    key: str
    commitment: str
    environment: str
    records: int
    visits: int


class Made(NamedTuple):
    """A state that an approximate method made, as its events say."""

    position: int
    key: str
    environment: str
    commitment: str
    records: int
    made_from: str
    method: str
    config: str
    applications: int
    refuted_at: str | None = None


@dataclass
class Derived:
    """An artefact, as its events say: when it was registered and reported gone, from what, and what taints it."""

    registered_at: str
    sources: dict[int, int]
    retired_at: str | None = None
    tainted_by: list[str] = field(default_factory=list)


@dataclass
class Edit:
    """A request to edit a language model, as its events say; `measured` is of those that were made."""

    facts: list[str]
    texts: str
    artefact: str
    weights: str
    editor: str
    config: str
    submitted_at: str
    state: EditState = EditState.SUBMITTED
    edited_at: str | None = None
    made: str | None = None
    weights_after: str | None = None
    measured: dict[str, Json] | None = None
    failure: str = ""

    def move(self, state: EditState) -> None:
        """Move along the transition table."""
        check_move(self.state, state)
        self.state = state


@dataclass
class Story:
    """The state a log tells of.

    Attributes:
        workspace: The workspace's id.
        description: Digest of its description.
        keys: Ids of the signing keys, oldest first.
        batches: Batches ingested.
        lifted: Tombstones that re-consents lifted.
        root: Root of the tree over the present records, hex.
        count: How many there are.
        steps: Built steps, by (shard, position).
        approximations: What approximate methods made and is served, by shard.
        removals: Certified removals since each shard was last trained.
        requests: Requests and where they stand.
        facts: Request to whatever its events say of it, by the names that `Request` has for it.
        said: Request to the salted digest of what it says, of those whose event holds it; edits among them.
        waiting: Requests that wait, to the digest of their encrypted ids, or None where no event holds it; edits too.
        migrations: What the database went through, and when.
        evidence: Request and part (`"withdrawal"`, `"recovery"`) to digest of the evidence.
        receipts: Request and stage to digest of the receipt.
        artefacts: What was derived and registered.
        edits: Requests to edit language models.
        tombstones: Root of the tree over what must not return, hex, and how much that is; None before `vouched`.
        vouched: Number of the event from which on the log says so; None if it does not.
        buried_before: Whether something was forgotten before that.
    """

    workspace: str = ""
    description: str = ""
    keys: list[str] = field(default_factory=list)
    batches: int = 0
    lifted: int = 0
    root: str = EMPTY.hash.hex()
    count: int = 0
    steps: dict[tuple[int, int], Built] = field(default_factory=dict)
    approximations: dict[int, Made] = field(default_factory=dict)
    removals: dict[int, int] = field(default_factory=dict)
    requests: dict[str, RequestState] = field(default_factory=dict)
    facts: dict[str, dict[str, Json]] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str | None] = field(default_factory=dict)
    migrations: dict[str, str] = field(default_factory=dict)
    evidence: dict[tuple[str, str], str] = field(default_factory=dict)
    receipts: dict[tuple[str, str], str] = field(default_factory=dict)
    artefacts: dict[str, Derived] = field(default_factory=dict)
    edits: dict[str, Edit] = field(default_factory=dict)
    tombstones: tuple[str, int] | None = None
    vouched: int | None = None
    buried_before: bool = False


def fold(entries: Iterable[Entry]) -> Story:
    """Tell the state a log comes to.

    Args:
        entries: The whole log, in order.

    Returns:
        The state.

    Raises:
        DamageError: If an event cannot follow those before it, or is of a kind this version does not know.
    """
    story = Story()
    for entry in entries:
        event = entry.event
        if event.kind not in FIELDS:
            raise DamageError(
                f"entry {entry.number} of the log is of the kind {event.kind[:40]!r}, which this version does not "
                "know: upgrade to verify this workspace"
            )
        handler = _HANDLERS.get(event.kind)
        if handler is None:
            continue
        try:
            handler(story, event)
            if story.vouched is None and story.tombstones is not None:
                story.vouched = entry.number
        except (UnlearnError, KeyError, TypeError, ValueError) as error:
            raise DamageError(
                f"entry {entry.number} of the log ({event.kind}) cannot follow those before it: {error}"
            ) from error
    return story


def _created(story: Story, event: Event) -> None:
    if story.workspace:
        raise DamageError("the workspace exists already")
    story.workspace, story.description = event.fields["workspace"], event.fields["description"]


def _migrated(story: Story, event: Event) -> None:
    story.migrations[event.fields["name"]] = event.at.isoformat()
    if "tombstones" in event.fields:
        if story.tombstones is not None:
            raise DamageError("the log vouches for the tombstones already")
        (root,), (count,) = event.fields["tombstones"], event.fields["buried"]
        story.tombstones = root, count


def _bury(story: Story, event: Event, least: int, most: int) -> None:
    """What must not return, after an event that changes it by so many; lifting is a change by fewer than none."""
    if "tombstones" not in event.fields:
        if story.tombstones is not None:
            raise DamageError("it does not say what must not return any more")
        story.buried_before = story.buried_before or bool(least or most)
        return
    before, after = zip(event.fields["tombstones"], event.fields["buried"], strict=True)
    if story.tombstones is None or before != story.tombstones:
        raise DamageError(
            "what must not return, before it, is not what it was after the event before: tombstones were changed by "
            "something else than this program"
        )
    if not least <= after[1] - before[1] <= most:
        raise DamageError("other tombstones were added or lifted than it says")
    story.tombstones = after


def _key_added(story: Story, event: Event) -> None:
    story.keys.append(event.fields["key"])


def _ingested(story: Story, event: Event) -> None:
    if event.fields["batch"] != story.batches:
        raise DamageError(f"it is batch {event.fields['batch']}, and batch {story.batches} is the next")
    story.batches += 1
    story.lifted += event.fields["lifted"]
    _bury(story, event, -event.fields["lifted"], -event.fields["lifted"])
    story.root, story.count = event.fields["records"], event.fields["count"]


def _built(story: Story, event: Event) -> None:
    place = event.fields["shard"], event.fields["position"]
    names = ("key", "state", "environment", "records", "visits")
    story.steps[place] = Built(*(event.fields[name] for name in names))
    story.removals.pop(place[0], None)


def _dropped(story: Story, event: Event) -> None:
    del story.steps[event.fields["shard"], event.fields["position"]]


def _approximated(story: Story, event: Event) -> None:
    shard = event.fields["shard"]
    if shard in story.approximations:
        raise DamageError("the shard has a state of an approximate method already")
    if event.fields["method"] == CERTIFIED:
        before, said = story.removals.get(shard, 0), event.fields["applications"]
        if said != before + 1:
            raise DamageError(f"it is removal {said} since the last training, and there were {before} before it")
        story.removals[shard] = said
    story.approximations[shard] = Made(
        *(event.fields[name] for name in ("position", "key", "environment", "state", "records")),
        *(event.fields[name] for name in ("made_from", "method", "config", "applications", "refuted")),
    )


def _approximation_dropped(story: Story, event: Event) -> None:
    if story.approximations.pop(event.fields["shard"]).key != event.fields["key"]:
        raise DamageError("the shard has another state of an approximate method")


def _approximation_refuted(story: Story, event: Event) -> None:
    made = story.approximations[event.fields["shard"]]
    if made.key != event.fields["key"] or made.refuted_at is not None:
        raise DamageError("the state is not there, or was refuted before")
    story.approximations[event.fields["shard"]] = made._replace(refuted_at=event.at.isoformat())


def _submitted(story: Story, event: Event) -> None:
    if event.fields["request"] in story.requests:
        raise DamageError("the request was submitted before")
    story.requests[event.fields["request"]] = RequestState.SUBMITTED
    name = event.fields["request"]
    known = ("digest", "n_subjects", "n_records", "deadline", "method", "method_digest", "escalate_by")
    facts = {item: event.fields[item] for item in known if item in event.fields}
    story.facts[name] = {**facts, "submitted_at": event.at.isoformat(), "failure": ""}
    if "method" in event.fields:
        story.facts[name]["not_applied"] = ""
    story.waiting[name] = event.fields.get("sealed")
    if "said" in event.fields:
        story.said[name] = event.fields["said"]


def _resealed(story: Story, event: Event) -> None:
    if event.fields["request"] not in story.waiting:
        raise DamageError("the request does not wait")
    story.waiting[event.fields["request"]] = event.fields["sealed"]


def _failed(story: Story, event: Event) -> None:
    _to(RequestState.FAILED)(story, event)
    del story.waiting[event.fields["request"]]
    if event.fields["why"] not in FAILURES:
        raise DamageError("this version does not know why it failed: upgrade to verify this workspace")
    story.facts[event.fields["request"]]["failure"] = FAILURES[event.fields["why"]]


def _extended(story: Story, event: Event) -> None:
    story.facts[event.fields["request"]]["deadline"] = event.fields["deadline"]


def _withdrawn(story: Story, event: Event) -> None:
    if story.requests[event.fields["request"]] is not RequestState.SUBMITTED:
        raise DamageError("the request was carried out before")
    story.waiting.pop(event.fields["request"], None)
    before, after = event.fields["records"]
    count_before, count_after = event.fields["counts"]
    if (before, count_before) != (story.root, story.count):
        raise DamageError("the records it was taken from are not those that were there")
    story.root, story.count = after, count_after
    flat = event.fields["shards"]
    hit = dict(zip(flat[::2], flat[1::2], strict=True))
    story.steps = {place: step for place, step in story.steps.items() if place[1] < hit.get(place[0], place[1] + 1)}
    name = event.fields["request"]
    story.facts[name] |= {"n_records": event.fields["n_records"], "shards": hit, "withdrawn_at": event.at.isoformat()}
    story.evidence[name, "withdrawal"] = event.fields["evidence"]
    if "approximation" in event.fields:
        story.evidence[name, "approximation"] = event.fields["approximation"]
    if "not_applied" in event.fields:
        story.facts[name]["not_applied"] = NOT_APPLIED[event.fields["not_applied"]]
    # A subject of whom something was forgotten before has a tombstone already; a record that was there has none.
    removed, subjects = event.fields["n_records"], story.facts[name]["n_subjects"]
    _bury(story, event, removed, removed + subjects)


def _to(state: RequestState) -> Callable[[Story, Event], None]:
    def move(story: Story, event: Event) -> None:
        name = event.fields["request"]
        check_transition(story.requests[name], state)
        story.requests[name] = state
        if state in {RequestState.FORGOTTEN, RequestState.RECOVERED}:
            story.facts[name][f"{state.value}_at"] = event.at.isoformat()
        if state is RequestState.RECOVERED:
            story.evidence[name, "recovery"] = event.fields["evidence"]

    return move


def _receipted(story: Story, event: Event) -> None:
    name, stage = event.fields["request"], event.fields["stage"]
    if (name, stage) in story.receipts:
        raise DamageError("the receipt was issued before")
    story.receipts[name, stage] = event.fields["receipt"]
    if stage == STAGE:
        story.edits[name].move(EditState.RECEIPTED)
    if stage == "recovered":
        _to(RequestState.RECEIPTED)(story, event)


def _registered(story: Story, event: Event) -> None:
    if event.fields["artefact"] in story.artefacts:
        raise DamageError("the artefact was registered before")
    flat = event.fields["sources"]
    sources = dict(zip(flat[::2], flat[1::2], strict=True))
    story.artefacts[event.fields["artefact"]] = Derived(event.at.isoformat(), sources)


def _tainted(story: Story, event: Event) -> None:
    story.artefacts[event.fields["artefact"]].tainted_by.append(event.fields["request"])


def _retired(story: Story, event: Event) -> None:
    story.artefacts[event.fields["artefact"]].retired_at = event.at.isoformat()


def _fact_submitted(story: Story, event: Event) -> None:
    name = event.fields["request"]
    if name in story.edits:
        raise DamageError("the request was submitted before")
    if event.fields["artefact"] not in story.artefacts:
        raise DamageError("no such artefact is registered")
    said = {item: event.fields[item] for item in ("facts", "texts", "artefact", "weights", "editor", "config")}
    story.edits[name] = Edit(**said, submitted_at=event.at.isoformat())
    story.said[name], story.waiting[name] = event.fields["said"], event.fields["sealed"]


def _edited(story: Story, event: Event) -> None:
    name, made = event.fields["request"], event.fields["artefact"]
    edit = story.edits[name]
    edit.move(EditState.EDITED)
    del story.waiting[name]
    if made not in story.artefacts or name not in story.artefacts[edit.artefact].tainted_by:
        raise DamageError("the edited model is not registered, or the one before does not count as tainted")
    edit.edited_at, edit.made, edit.weights_after = event.at.isoformat(), made, event.fields["weights"]
    edit.measured = {measure: event.fields[measure] for measure in MEASURES}


def _not_edited(story: Story, event: Event) -> None:
    name = event.fields["request"]
    story.edits[name].move(EditState.NOT_APPLIED)
    del story.waiting[name]
    if event.fields["why"] not in NOT_MADE:
        raise DamageError("this version does not know why it was not made: upgrade to verify this workspace")
    story.edits[name].failure = NOT_MADE[event.fields["why"]]


_HANDLERS: dict[str, Callable[[Story, Event], None]] = {
    "created": _created,
    "migrated": _migrated,
    "key-added": _key_added,
    "ingested": _ingested,
    "built": _built,
    "dropped": _dropped,
    "approximated": _approximated,
    "approximation-dropped": _approximation_dropped,
    "approximation-refuted": _approximation_refuted,
    "submitted": _submitted,
    "extended": _extended,
    "failed": _failed,
    "resealed": _resealed,
    "withdrawn": _withdrawn,
    "forgotten": _to(RequestState.FORGOTTEN),
    "recovered": _to(RequestState.RECOVERED),
    "receipted": _receipted,
    "artefact-registered": _registered,
    "artefact-tainted": _tainted,
    "artefact-retired": _retired,
    "fact-submitted": _fact_submitted,
    "edited": _edited,
    "not-edited": _not_edited,
}
"""What the events do to the state; the others do nothing to what is compared."""
