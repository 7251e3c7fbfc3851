"""Accept deletion requests durably, from any number of threads and processes at once, without the workspace's lock.

Threads of one process share transactions: whoever comes first commits for all that came meanwhile, so that one wait
for the disk acknowledges many (group commit). Processes do the same among each other (`relay`).
"""

from __future__ import annotations

import threading

from unlearn.errors import DamageError, UnlearnError
from unlearn.forgetting import Draft, Named
from unlearn.ledger import Submission
from unlearn.relay import Relay, Results
from unlearn.request import Request
from unlearn.site import Site


class _Waiting:
    """A submission on its way, and what came of it."""

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.woken = threading.Event()
        self.is_done = False
        self.result: Request | UnlearnError | None = None


class Acceptor:
    """Accepts requests into the ledger.

    Of the threads that wait, one leads: it commits for all. Then it wakes them, and the first that came meanwhile
    leads.

    Args:
        site: The workspace.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._relay = Relay(site.path / "inbox", site.ledger)
        self._epoch = ""
        self._queue: list[_Waiting] = []
        self._is_led = False
        self._lock = threading.Lock()

    def accept(self, draft: Draft, named: Named) -> Request:
        """Accept a request; it is on the disk when this returns.

        Args:
            draft: The request.
            named: What it names.

        Returns:
            The request, or the one it repeats.

        Raises:
            IdempotencyError: If its key was used for another request.
            StorageError: If the disk refuses; then it was not accepted.
            DamageError: If the key that ids are to be encrypted under is missing.
        """
        epoch = self._epoch or self._site.ledger.epoch()
        while True:
            submission = self._seal(epoch, draft, named)
            result = None if submission is None else self._commit(submission)
            if isinstance(result, UnlearnError):
                raise result
            if result is not None:
                # Worth a guess the next time; the ledger refuses what comes under a key that is not the present one.
                self._epoch = epoch
                return result
            # A new epoch began meanwhile: nothing may come under the old key any more.
            last, epoch = epoch, self._site.ledger.epoch()
            if submission is None and epoch == last:
                raise DamageError(
                    f"the key {epoch}.key of {self._site.path / 'inbox'} is missing, so ids cannot be encrypted: "
                    "restore it from a copy, or serve what was submitted before, which begins a new key; nothing was "
                    "accepted"
                )

    def _seal(self, epoch: str, draft: Draft, named: Named) -> Submission | None:
        try:
            sealed = self._site.inbox.seal(epoch, draft.request.id, named.subjects, named.record_ids)
        except FileNotFoundError:
            return None
        return Submission(draft.request, draft.fingerprint, epoch, sealed, draft.dated, draft.escalated)

    def _commit(self, submission: Submission) -> Request | UnlearnError | None:
        mine = _Waiting(submission)
        with self._lock:
            self._queue.append(mine)
            leads, self._is_led = not self._is_led, True
        try:
            if not leads:
                mine.woken.wait()
                leads = not mine.is_done
            if leads:
                self._lead()
        except BaseException:
            self._give_up(mine, leads)
            raise
        return mine.result

    def _lead(self) -> None:
        """Commit for all that wait, this thread's own among them; then have the next one lead."""
        with self._lock:
            together, self._queue = self._queue, []
        try:
            for item, result in zip(together, self._commit_all(together), strict=True):
                item.result, item.is_done = result, True
                item.woken.set()
        except BaseException:
            # Interrupted: the others try for themselves. What is committed already stays so, once.
            with self._lock:
                self._queue = [item for item in together if not item.is_done] + self._queue
            raise
        self._pass_on()

    def _commit_all(self, together: list[_Waiting]) -> Results:
        try:
            return self._relay.commit([item.submission for item in together])
        except UnlearnError as error:
            return [error] * len(together)

    def _pass_on(self) -> None:
        with self._lock:
            if self._queue:
                self._queue[0].woken.set()
            else:
                self._is_led = False

    def _give_up(self, mine: _Waiting, leads: bool) -> None:
        """An interrupted thread leaves the queue, and does not take the lead with it."""
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
        if leads or (mine.woken.is_set() and not mine.is_done):
            self._pass_on()
