"""What the log tells of training and of forgetting: how often each step was trained, destroyed, hit, and for how much.

Pure: events in, counts out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from unlearn.ledger.events import Event
from unlearn.report.data import Phase

Place = tuple[int, int]
"""Shard and position."""


@dataclass
class History:
    """The counts of a log.

    Attributes:
        phases: Training and recoveries, in order.
        hits: Step to the requests whose earliest record in its shard was in its slice.
        destroyed: Step to how often a trained state of it was destroyed.
        made_and_gone: States that methods made and that are served no more.
        trained: Record-visits of training steps for the first time.
        rebuilt: Record-visits of training steps again.
        lifted: Tombstones that were lifted by consent.
    """

    phases: list[Phase] = field(default_factory=list)
    hits: Counter[Place] = field(default_factory=Counter)
    destroyed: Counter[Place] = field(default_factory=Counter)
    made_and_gone: int = 0
    trained: int = 0
    rebuilt: int = 0
    lifted: int = 0


@dataclass
class _Reader:
    """Reads a log.

    Attributes:
        told: What it came to so far.
        there: Steps that have a trained state.
        known: Steps that ever had one.
        steps: Steps trained since the last phase ended.
        visits: Record-visits of these.
        last: When the last of these was recorded; None: there are none.
        before: Kind of the event before, of those that matter here.
    """

    told: History = field(default_factory=History)
    there: set[Place] = field(default_factory=set)
    known: set[Place] = field(default_factory=set)
    steps: int = 0
    visits: int = 0
    last: datetime | None = None
    before: str = ""

    def built(self, event: Event) -> None:
        place, visits = (event.fields["shard"], event.fields["position"]), event.fields["visits"]
        if place in self.known:
            self.told.rebuilt += visits
        else:
            self.told.trained += visits
        self.known.add(place)
        self.there.add(place)
        self.steps, self.visits, self.last = self.steps + 1, self.visits + visits, event.at

    def dropped(self, event: Event) -> None:
        self.there.discard((event.fields["shard"], event.fields["position"]))

    def approximation_dropped(self, event: Event) -> None:
        del event
        self.told.made_and_gone += 1

    def ingested(self, event: Event) -> None:
        self.end_training()
        self.told.lifted += event.fields["lifted"]

    def withdrawn(self, event: Event) -> None:
        self.end_training()
        hit = event.fields["shards"]
        for shard, first in zip(hit[::2], hit[1::2], strict=True):
            self.told.hits[shard, first] += 1
            gone = {place for place in self.there if place[0] == shard and place[1] >= first}
            self.told.destroyed.update(gone)
            self.there -= gone

    def recovered(self, event: Event) -> None:
        """Those that one recovery brought about follow each other in the log."""
        if self.before == "recovered":
            last = self.told.phases[-1]
            self.told.phases[-1] = replace(last, requests=last.requests + 1)
            return
        self._end("recovery", self.last or event.at, 1)

    def end_training(self) -> None:
        """What was trained since the last phase, if anything was, is one of its own."""
        if self.last is not None:
            self._end("training", self.last, 0)

    def _end(self, kind: Literal["training", "recovery"], at: datetime, requests: int) -> None:
        share = self.visits / self.told.trained if self.told.trained else 0.0
        self.told.phases.append(Phase(kind, at, requests, self.steps, self.visits, share))
        self.steps, self.visits, self.last = 0, 0, None


def read_history(events: Iterable[Event]) -> History:
    """Count what a log tells.

    Args:
        events: The whole log, in order.

    Returns:
        The counts.
    """
    reader = _Reader()
    handlers: dict[str, Callable[[Event], None]] = {
        "built": reader.built,
        "dropped": reader.dropped,
        "approximation-dropped": reader.approximation_dropped,
        "ingested": reader.ingested,
        "withdrawn": reader.withdrawn,
        "recovered": reader.recovered,
    }
    for event in events:
        if event.kind in handlers:
            handlers[event.kind](event)
            reader.before = event.kind
    reader.end_training()
    return reader.told
