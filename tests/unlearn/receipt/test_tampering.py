"""A statement with one thing changed, signed again with the right key, is refused and says what is wrong.

And a receipt with one bit flipped, cut short, or lengthened is refused.
"""

from __future__ import annotations

import random
import re

import pytest

from shards.digest import Json
from tests.unlearn.receipt.build import Path, make, mutations
from unlearn.errors import VerificationError
from unlearn.receipt import seal, verify_offline

MADE = make()

FREE = (
    r"changed predicate/artefacts/0/(name|kind|location)",
    r"removed predicate/artefacts/0",
    r"changed predicate/workspace/description",
    r"changed predicate/previous at recovered",
    r"changed predicate/software/version",
)
"""What nothing else in a receipt repeats: whoever holds the key may say it so."""

COMPARED = {"predicate/workspace/description": "workspace: description", "predicate/previous": "previous"}
"""Of these, what is compared where the receipt of stage forgotten is given as well."""

EVIDENCE = r"the evidence of the {0} \({0}\) is not what the event \w+ in the log says \(evidence\)"
NOT_IN_LOG = r"log: event \d is not in the log that the receipt states"

RULES: tuple[tuple[str, int, str], ...] = (
    # Pruned trees, of which the digest is looked at first.
    (
        r"removed predicate/(withdrawal|recovery)/(presence|absence)",
        3,
        r"(withdrawal|recovery): the field '\w+' is missing",
    ),
    (r"\w+ predicate/withdrawal/(presence|absence)(/.+)?", 6, EVIDENCE.format("withdrawal")),
    (r"\w+ predicate/recovery/absence(/.+)?", 6, EVIDENCE.format("recovery")),
    # What vouches for the signing key is looked at with the signature.
    (r"\w+ predicate/keys/0/.*", 2, r"key rotation 1\b"),
    (r"added predicate/keys", 2, "key rotation 2 is there twice"),
    (r"added predicate/keys/0", 2, "key rotation 1: the field 'unknown' is unknown"),
    (r"retyped predicate/keys/0", 2, "key rotation 1 must be an object"),
    (r"removed predicate/keys/0", 2, "no trusted key signed it"),
    (r"retyped predicate/keys", 2, "keys must be a list"),
    (r"removed predicate/(keys|workspace)", 2, "fields 'keys' and 'workspace'"),
    (r"(removed|retyped) predicate", 2, "fields 'keys' and 'workspace'"),
    (r"changed predicate/workspace/id", 2, "key rotation 1 is of another workspace"),
    (r"retyped predicate/workspace/id", 2, "workspace: id must be a text"),
    (r"added predicate/workspace", 2, "workspace: the field 'unknown' is unknown"),
    (r"retyped predicate/workspace", 2, "workspace must be an object"),
    (r"removed predicate/workspace/(id|description)", 2, r"workspace: the field '\w+' is missing"),
    # One value and no other.
    (r"(changed|retyped) (_type|predicateType)", 3, "_?(predicateT|t)ype must be '"),
    (r"(changed|retyped) predicate/stage", 3, "stage must be 'forgotten' or 'recovered'"),
    (r"(changed|retyped) predicate/guarantee/kind", 3, "guarantee: kind must be 'exact'"),
    (r"(changed|retyped) predicate/guarantee/statement", 3, "guarantee: statement is not worded as version 1"),
    (r"(changed|retyped) predicate/guarantee/assumptions/\d", 3, r"guarantee: assumptions: entry \d is not worded as"),
    (
        r"(changed|retyped) predicate/guarantee/adaptive_requests/statement",
        3,
        "guarantee: adaptive_requests: statement is not worded as version 1",
    ),
    # Null means that nothing is promised; anything else there needs the words of a promise.
    (
        r"(changed|retyped) predicate/guarantee/adaptive_requests/privacy",
        3,
        "guarantee: adaptive_requests: statement is not worded as version 1",
    ),
    (r"(changed|retyped) predicate/not_proven/\d", 3, r"not_proven: entry \d is not worded as version 1"),
    (r"(changed|retyped) predicate/software/name", 3, "software: name must be 'sisa-unlearn'"),
    # Lists of a certain length.
    (r"(added|removed) predicate/guarantee/assumptions(/\d)", 3, r"guarantee: assumptions must have \d entries"),
    (r"added predicate/guarantee/assumptions", 3, r"guarantee: assumptions must have \d entries"),
    (r"(added predicate/not_proven|removed predicate/not_proven/\d)", 3, r"not_proven must have \d entries"),
    (r"(added subject|removed subject/0)", 3, "subject must have 1 entry, not [02]"),
    (r"added subject/0/digest", 3, "subject: digest: the field 'unknown' is unknown"),
    (r"retyped subject/0/name", 3, "subject: name must be a text"),
    (r"retyped subject/0/digest", 3, "subject: digest must be an object"),
    (r"retyped subject/0/digest/sha256", 3, "subject: digest: sha256 must be 64 hex digits"),
    (r"removed subject/0/(name|digest)", 3, r"subject: the field '\w+' is missing"),
    (r"removed subject/0/digest/sha256", 3, "subject: digest: the field 'sha256' is missing"),
    (r"added subject/0", 3, "subject: the field 'unknown' is unknown"),
    (r"retyped subject/0", 3, "subject must be an object"),
    (r"added predicate/withdrawal/(states/\w+|destroyed)/\d", 3, r"withdrawal: .*: entry \d must have \d entries"),
    (r"removed predicate/withdrawal/(states/\w+|destroyed)/\d/\d", 3, r"withdrawal: .*: entry \d must have \d entries"),
    (r"added predicate/recovery/\w+/\d", 3, r"recovery: .*: entry \d must have \d entries"),
    (r"removed predicate/recovery/(states|rebuilt)/\d/\d", 3, r"recovery: .*: entry \d must have \d entries"),
    (r"retyped predicate/(withdrawal|recovery)/.*/\d/0", 3, r"entry \d: shard must be a whole number"),
    (r"retyped predicate/(withdrawal|recovery)/.*/\d/1", 3, r"entry \d: position must be a whole number"),
    (r"retyped predicate/(withdrawal/(states/\w+|destroyed)|recovery/\w+)/\d/2", 3, r"entry \d: key must be 64 hex"),
    (r"retyped predicate/(withdrawal|recovery)/.*states(/\w+)?/\d/3", 3, r"entry \d: commitment must be 64 hex"),
    (r"retyped predicate/(withdrawal|recovery)/.*states(/\w+)?/\d/4", 3, r"entry \d: records must be a whole number"),
    (r"retyped predicate/recovery/rebuilt/\d/3", 3, r"recovery: rebuilt: entry \d: environment must be 64 hex digits"),
    (r"retyped predicate/log/events/\d/proof/\d", 3, r"log: events: entry \d: proof: hash \d must be 64 hex digits"),
    # Entries in order, none twice.
    (r"added predicate/artefacts", 3, "artefacts: entry 2: the artefact 'scores-2025' is there twice"),
    (
        r"added predicate/withdrawal/(removed|destroyed|states/\w+)",
        3,
        "withdrawal: .*: the entries must be in ascending",
    ),
    (r"added predicate/recovery/(states|rebuilt)", 3, r"recovery: \w+: the entries must be in ascending order"),
    (
        r"changed predicate/withdrawal/(destroyed|states/\w+)/[01]/[01]",
        36,
        f"ascending|{EVIDENCE.format('withdrawal')}",
    ),
    (r"changed predicate/recovery/(states|rebuilt)/[01]/[01]", 36, f"ascending|{EVIDENCE.format('recovery')}"),
    (r"added predicate/withdrawal/shards", 3, "withdrawal: shards: 'unknown' is no number of a shard"),
    # A stage has its own fields.
    (
        r"(changed|retyped) predicate/(recovery|previous|request/recovered_at) at forgotten",
        3,
        "must be null in a receipt at stage forg",
    ),
    (r"removed predicate/environments/\w{64}", 3, "environments: .*, in which a step was rebuilt, is not described"),
    (
        r"(added|retyped) predicate/environments/\w{64}",
        3,
        "environments: .*(the field 'unknown' is unknown|must be an obj)",
    ),
    (r"removed predicate/environments/\w{64}/\w+", 3, r"environments: .*: the field '\w+' is missing"),
    (r"retyped predicate/environments/\w{64}/kernel", 3, r"environments: .*: kernel must be a text"),
    (r"retyped predicate/environments/\w{64}/(numeric|distributions)", 3, r"environments: .*: \w+ must be an object"),
    (r"\w+ predicate/environments/\w{64}/.*", 3, "environments: .* is not the digest of what is described under it"),
    (r"added predicate/environments", 3, "environments: no rebuilt step names 'unknown'"),
    (r"changed predicate/recovery/rebuilt/\d/3", 3, "environments: .*, in which a step was rebuilt, is not described"),
    # The subject is the request's.
    (r"changed (subject/0/name|predicate/request/id)", 4, "subject: name is '.*', but the receipt is about 'request/"),
    (r"changed (subject/0/digest/sha256|predicate/request/digest)", 4, "subject: digest is not the digest of the requ"),
    # The log says the same, and proves it.
    (
        r"changed predicate/request/(n_\w+|deadline)",
        5,
        r"request: (n_\w+|deadline) is not what the event \w+ in the log",
    ),
    (r"changed predicate/request/\w+_at", 5, r"request: \w+_at is not the time of the event \w+ in the log"),
    (
        r"changed predicate/log/events/\d/index",
        5,
        f"{NOT_IN_LOG}|log: event 2: its index is not after that of the event",
    ),
    (r"changed predicate/log/(size|root|events/.*)", 5, NOT_IN_LOG),
    (r"(added predicate/log/events/\d/proof|removed predicate/log/events/\d/proof/\d)", 5, NOT_IN_LOG),
    (r"added predicate/log/events", 5, r"log: event \d: its index is not after that of the event before it"),
    (
        r"removed predicate/log/events/\d",
        5,
        "log: events are of the kinds .*; a receipt at stage .* needs submitted, ",
    ),
    # The accounts of what was done are those whose digests the log holds.
    (r"removed predicate/withdrawal/((removed|destroyed|states/\w+)/\d|shards/\d)", 6, EVIDENCE.format("withdrawal")),
    (r"removed predicate/recovery/(states|rebuilt)/\d", 6, EVIDENCE.format("recovery")),
    (r"changed predicate/withdrawal/.*", 6, EVIDENCE.format("withdrawal")),
    (r"changed predicate/recovery/.*", 6, EVIDENCE.format("recovery")),
)
"""What was done and where (and at which stage), the step that refuses it, what is said. The first that fits holds.

Fields of which there is no more to say are refused by their form: see `expected`. 36: at step 3 or 6.
"""


def label(path: Path) -> str:
    """How messages name a place."""
    steps = path[1:] if path[:1] == ("predicate",) and len(path) > 1 else path
    return ": ".join(f"entry {step + 1}" if isinstance(step, int) else step for step in steps) or "the statement"


def rule(what: str, path: Path, stage: str) -> tuple[str, int, str] | None:
    """The first rule that fits."""
    case = f"{what} {'/'.join(map(str, path))}"
    fitting = (item for item in RULES if re.fullmatch(item[0], case) or re.fullmatch(item[0], f"{case} at {stage}"))
    return next(fitting, None)


def is_free(what: str, path: Path, stage: str) -> bool:
    """Whether a change is one that only whoever signs can be held to."""
    case = f"{what} {'/'.join(map(str, path))}"
    return any(re.fullmatch(free, case) or re.fullmatch(free, f"{case} at {stage}") for free in FREE)


def expected(what: str, path: Path, stage: str) -> tuple[int, str]:
    """Which step refuses a change, and what it says."""
    found = rule(what, path, stage)
    if found is not None:
        return found[1:]
    if what == "added":
        return 3, f"{re.escape(label(path))}: the field 'unknown' is unknown"
    if what == "removed":
        return 3, f"{re.escape(label(path[:-1]))}: the field '{path[-1]}' is missing"
    assert what == "retyped", f"no rule for {what} {path}"
    return 3, f"{re.escape(label(path))} must be "


def groups(stage: str) -> list[tuple[str, str]]:
    """The parts of a statement, each of which is one test."""
    statement = MADE.statements[stage]
    return [(stage, name) for name in ("", *statement, *(f"predicate/{name}" for name in statement["predicate"]))]


def group_of(path: Path) -> str:
    """The part that a place is in."""
    return "/".join(map(str, path[:2] if path[:1] == ("predicate",) else path[:1]))


@pytest.mark.parametrize(("stage", "part"), [*groups("forgotten"), *groups("recovered")])
def test_anything_changed_and_signed_again_is_refused_by_name(stage: str, part: str) -> None:
    tried = 0
    for what, path, statement in mutations(MADE.statements[stage]):
        if group_of(path) != part:
            continue
        tried += 1
        case = f"{what} {'/'.join(map(str, path))}"
        if is_free(what, path, stage):
            check_free(stage, path, statement)
            continue
        step, message = expected(what, path, stage)
        with pytest.raises(VerificationError) as caught:
            verify_offline(seal(statement, [MADE.current]), [MADE.pinned])
        assert caught.value.step in ({3, 6} if step == 36 else {step}), (case, str(caught.value))
        assert re.search(message, str(caught.value)), (case, message, str(caught.value))
    assert tried


def check_free(stage: str, path: Path, statement: Json) -> None:
    """What a receipt alone may say is accepted, unless there is something to compare it with."""
    receipt = seal(statement, [MADE.current])
    assert verify_offline(receipt, [MADE.pinned]).predicate.stage == stage
    compared = COMPARED.get("/".join(map(str, path)))
    if stage == "recovered" and compared is not None:
        with pytest.raises(VerificationError, match=compared) as caught:
            verify_offline(receipt, [MADE.pinned], forgotten=MADE.forgotten)
        assert caught.value.step == 10


def test_every_rule_is_of_use() -> None:
    used, free = set(), 0
    for stage, statement in MADE.statements.items():
        for what, path, _ in mutations(statement):
            free += is_free(what, path, stage)
            used.add(rule(what, path, stage))
    assert set(RULES) <= used
    assert free == 2 * (4 + 1 + 1) + 1


@pytest.mark.parametrize("stage", ["forgotten", "recovered"])
def test_a_flipped_bit_in_any_byte_is_noticed(stage: str) -> None:
    receipt, chance = MADE.receipt(stage), random.Random(0)
    for position in range(len(receipt)):
        damaged = bytearray(receipt)
        damaged[position] ^= 1 << chance.randrange(8)
        with pytest.raises(VerificationError, match=r"verification failed at step [12] \(the (file|signature)\): "):
            verify_offline(bytes(damaged), [MADE.pinned])


def test_a_receipt_cut_short_anywhere_is_noticed() -> None:
    receipt = MADE.forgotten
    for length in [*range(300), *range(300, len(receipt) - 1, 37), *range(len(receipt) - 300, len(receipt) - 1)]:
        with pytest.raises(
            VerificationError, match=r"step 1 .*the envelope is not complete, well-formed JSON"
        ) as caught:
            verify_offline(receipt[:length], [MADE.pinned])
        assert caught.value.step == 1


@pytest.mark.parametrize("more", [b"x", b"{}", b"\x00", b"\xff"])
def test_something_behind_a_receipt_is_noticed(more: bytes) -> None:
    with pytest.raises(VerificationError, match="step 1 "):
        verify_offline(MADE.forgotten + more, [MADE.pinned])
