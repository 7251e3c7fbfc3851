"""What a certificate says: a number, what it is about, what it rests on, and what it does not say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from unlearn.methods.certified.mechanism import Account, Claim


@dataclass(frozen=True)
class Budget:
    """How much is spent of what was promised.

    Attributes:
        epsilon: Promised.
        delta: That both are stated for.
        spent: Epsilon of all that was charged, at this delta.
        account: The mechanism's own numbers.
        removed: Records forgotten.
        releases: Models published since training.
        retrainings: Of them, trained from nothing because the budget did not suffice.
    """

    epsilon: float
    delta: float
    spent: float
    account: Account
    removed: int
    releases: int
    retrainings: int

    @property
    def left(self) -> float:
        """Epsilon that is left, at least 0. Charges do not add in it: they add in the account."""
        return max(0.0, self.epsilon - self.spent)


@dataclass(frozen=True)
class Certificate:
    """A statement about the model that is published now.

    Attributes:
        mechanism: How it was made.
        epsilon: What was promised, and holds at every time: budgets that end by what they were charged prove no less,
            and where requests may look at models nothing smaller.
        delta: Delta.
        spent: What the charges so far would give, had all requests been fixed beforehand. Without noise, and computed
            from the data by some mechanisms: for the operator, not for publication.
        claim: What epsilon says: whether it is proven, its scope, assumptions and caveats.
        removed: Records that were forgotten.
        regularisation: λ.
        n: Records that remain.
        account: The numbers that it was computed from; for the operator too.
    """

    mechanism: str
    epsilon: float
    delta: float
    spent: float
    claim: Claim
    removed: int
    regularisation: float
    n: int
    account: Account

    @property
    def proven(self) -> bool:
        """Whether the claim has a proof; a certificate without one is a calculation under assumptions."""
        return self.claim.proven

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        """In one sentence that may be published: of the numbers, it names those alone that no data decide."""
        proof = "proven" if self.proven else "NOT PROVEN, under the assumptions listed"
        looking = "even if requests look at them" if self.claim.adaptive else "for requests chosen without looking"
        return (
            f"{self.mechanism}: after {self.removed} removals ({self.epsilon:.4g}, {self.delta:g})-indistinguishable "
            f"from retraining ({proof}), about {self.claim.scope}, {looking}"
        )
