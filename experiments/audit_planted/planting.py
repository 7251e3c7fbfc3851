"""Plant a failure: put other states into the service of a workspace, as software would that builds the wrong thing.

The workspace's receipts and records stay as they are, and so does its log, unless it is told to say that these states
were built. It serves the planted states as its own, and its audit finds them by what they say alone. Where the log is
told, only comparing bytes (`unlearn verify --replay`) finds them otherwise.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace

from shards.digest import digest_arrays
from shards.learners.base import State
from shards.store import new_salt
from unlearn import Workspace


def plant(workspace: Workspace, states: Mapping[int, State], *, recorded: bool = True) -> None:
    """Serve other states, from the next process that opens the workspace on, and to its audits at once.

    Args:
        workspace: The workspace, with its ledger in SQLite; every shard named serves something.
        states: Shard to the state it is to serve from here on.
        recorded: Tell the ledger, so that the workspace takes them for what it built itself.
    """
    site = workspace._site
    commitments = []
    for step in site.ledger.served()[1]:
        if step.shard not in states:
            continue
        state, folder = states[step.shard], site.folder(step.shard)
        header = replace(
            folder.header(step.key),
            content=site.learner.content_digest(state),
            payload=digest_arrays(state),
            salt=new_salt(),
        )
        staged = folder.stage(header, state)
        folder.purge([step.key])
        folder.publish(staged, step.key)
        commitments.append((header.commitment, step.shard, step.position))
    if not recorded:
        return
    with closing(sqlite3.connect(site.path / "ledger.db")) as c, c:
        c.executemany("UPDATE step SET commitment = ? WHERE shard = ? AND position = ?", commitments)
        c.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'generation'")


def log_as_built(workspace: Workspace) -> None:
    """Let the log say, too, that the workspace built what it serves, as software would that builds the wrong thing.

    After this, receipts, log, ledger and files contradict each other nowhere.

    Args:
        workspace: After `plant`.
    """
    for step in workspace._site.ledger.served()[1]:
        workspace._site.ledger.record_step(step)
