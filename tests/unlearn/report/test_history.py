"""What a log comes to: steps trained and destroyed, and what recoveries cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from unlearn.ledger.events import Event
from unlearn.report.history import History, read_history

START = datetime(2030, 1, 1, tzinfo=UTC)


def told(*events: tuple[str, dict[str, Any]]) -> History:
    return read_history(Event(kind, START + timedelta(hours=n), fields) for n, (kind, fields) in enumerate(events))


def built(shard: int, position: int, visits: int) -> tuple[str, dict[str, Any]]:
    return "built", {"shard": shard, "position": position, "visits": visits}


def withdrawn(*shards: int) -> tuple[str, dict[str, Any]]:
    return "withdrawn", {"request": "req-0", "shards": list(shards)}


RECOVERED = ("recovered", {"request": "req-0"})
INGESTED = ("ingested", {"lifted": 0})
TRAINED = (INGESTED, built(0, 0, 10), built(0, 1, 20), built(1, 0, 10), built(1, 1, 20))


def test_an_empty_log() -> None:
    assert told() == History()


def test_a_training_that_nobody_disturbed() -> None:
    found = told(*TRAINED, ("receipted", {}))
    assert [(phase.kind, phase.steps, phase.visits, phase.share) for phase in found.phases] == [
        ("training", 4, 60, 1.0)
    ]
    assert found.phases[0].ended_at == START + timedelta(hours=4)
    assert (found.trained, found.rebuilt, found.hits, found.destroyed) == (60, 0, {}, {})


def test_a_request_destroys_from_its_slice_on() -> None:
    found = told(*TRAINED, withdrawn(0, 1, 1, 0), built(0, 1, 19), built(1, 0, 9), built(1, 1, 18), RECOVERED)
    assert found.hits == {(0, 1): 1, (1, 0): 1}
    assert found.destroyed == {(0, 1): 1, (1, 0): 1, (1, 1): 1}
    assert (found.trained, found.rebuilt) == (60, 46)
    last = found.phases[-1]
    assert (last.kind, last.requests, last.steps, last.visits, last.share) == ("recovery", 1, 3, 46, 46 / 60)


def test_requests_recovered_together_share_one_recovery() -> None:
    found = told(*TRAINED, withdrawn(0, 0), withdrawn(0, 1), built(0, 0, 9), built(0, 1, 18), RECOVERED, RECOVERED)
    assert [(phase.kind, phase.requests, phase.visits) for phase in found.phases[1:]] == [("recovery", 2, 27)]
    # The second found nothing left to destroy in this shard.
    assert found.destroyed == {(0, 0): 1, (0, 1): 1}


def test_recoveries_one_after_the_other_are_two() -> None:
    one = (withdrawn(0, 1), built(0, 1, 19), RECOVERED)
    found = told(*TRAINED, *one, *one)
    assert [phase.requests for phase in found.phases] == [0, 1, 1]
    assert found.destroyed == {(0, 1): 2}


def test_a_request_while_a_training_is_under_way() -> None:
    found = told(INGESTED, built(0, 0, 10), withdrawn(0, 0), built(0, 0, 9), built(0, 1, 18), RECOVERED)
    assert [(phase.kind, phase.visits) for phase in found.phases] == [("training", 10), ("recovery", 27)]
    assert (found.trained, found.rebuilt) == (28, 9)


def test_a_second_batch_and_consent_to_return() -> None:
    later = ("ingested", {"lifted": 2})
    found = told(*TRAINED, later, built(0, 2, 30))
    assert [(phase.kind, phase.share) for phase in found.phases] == [("training", 1.0), ("training", 30 / 90)]
    assert found.lifted == 2


def test_what_was_dropped_is_not_destroyed_again() -> None:
    found = told(*TRAINED, ("dropped", {"shard": 0, "position": 1}), withdrawn(0, 0))
    assert found.destroyed == {(0, 0): 1}


def test_what_methods_made_is_counted_once_it_is_gone() -> None:
    gone = ("approximation-dropped", {"shard": 0, "key": "aa"})
    found = told(*TRAINED, withdrawn(0, 1), gone, withdrawn(0, 1), gone)
    assert (found.made_and_gone, found.destroyed) == (2, {(0, 1): 1})


def test_a_request_that_hit_nothing_trained_costs_nothing() -> None:
    found = told(INGESTED, withdrawn(0, 0), RECOVERED)
    assert [(phase.kind, phase.visits, phase.share) for phase in found.phases] == [("recovery", 0, 0.0)]
