"""What `unlearn audit --attack` and `--list-attacks` print for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from unlearn.cli.output import counted, say

if TYPE_CHECKING:
    from unlearn.audit.attack_audit import AttackAudit, AttackFinding
    from unlearn.audit.metrics.estimate import Estimate


def list_attacks(asked: bool) -> None:
    """Print every attack and end, if that is asked for.

    Args:
        asked: Whether it is.

    Raises:
        Exit: If it was, with status 0.
    """
    if not asked:
        return
    from unlearn.audit.attacks import ATTACKS
    from unlearn.audit.shown import SERVED

    for name, attack in ATTACKS.items():
        served = SERVED.get(name)
        where = "from Python alone" if served is None else "with --shadows N" if served.needs_shadows else "--attack"
        say(f"{name:<20} {where:<18} {attack.card.title}")
        if served is None:
            say(f"{'':<20} needs {'; '.join(attack.card.needs)}")
    raise typer.Exit


def say_attacks(found: AttackAudit) -> None:
    """Print an audit by attacks for people.

    Args:
        found: The audit.
    """
    facts = found.facts
    say(
        f"{counted(found.members, 'subject')} of the data, {found.forgotten} forgotten by "
        f"{counted(len(facts.requests), 'request')}, {found.held_out} held out, under the served model"
    )
    for reason, count in sorted(facts.set_aside.items()):
        say(f"  not tested: {counted(count, 'record')}: {reason}")
    for finding in found.findings:
        _say_finding(finding)
    _say_verdict(found)
    say("it rests on this:")
    for assumption in found.assumptions:
        say(f"  - {assumption}")
    say("not shown by it:")
    for limit in found.not_shown:
        say(f"  - {limit}")


def _say_finding(finding: AttackFinding) -> None:
    exposure, forgetting = finding.exposure, finding.forgetting
    say(f"{finding.attack}")
    rates = ", ".join(f"TPR {_figure(rate)} at {fpr:.1%} FPR" for fpr, rate in reversed(exposure.tpr))
    say(f"  members of the data against all others: AUC {_figure(exposure.auc)}, {rates}")
    if exposure.decisions is not None:
        decided = exposure.decisions
        say(
            f"    threshold chosen on half of them, judged on the others: balanced accuracy "
            f"{_figure(decided.balanced_accuracy)}, advantage {_figure(decided.advantage)}"
        )
    if forgetting is None:
        return
    say(
        f"  forgotten against held out: AUC {_figure(forgetting.auc)}, of no difference {forgetting.null_low:.3f} to "
        f"{forgetting.null_high:.3f}; p = {finding.p_value:.4f}"
    )
    if finding.adjusted is not None:
        say(f"    {finding.verdict}, p = {finding.adjusted:.4f} adjusted")
    say(
        f"    an AUC of {finding.detectable:.3f} would be found with a probability of 80%, and forgotten subjects that "
        f"look as members do in {finding.power_if_kept:.0%} of cases"
    )
    if finding.canaries is not None:
        coins = finding.canaries
        say(
            f"    coins: {coins.correct} of {coins.guesses} guessed, p = {coins.p_value:.4f}, epsilon of deleting all "
            f"together at least {coins.epsilon_lower:.2f}; had all been right, {coins.epsilon_largest:.2f}"
        )


def _say_verdict(found: AttackAudit) -> None:
    if found.p_value is None:
        say("no verdict: nothing was held out to compare the forgotten with (--held-out FILE)")
        return
    words = "REFUTED" if found.verdict == "refuted" else "not refuted"
    what = ": the model tells forgotten subjects from such as never came" if found.verdict == "refuted" else ""
    say(f"{words}, p = {found.p_value:.4f}{what} (alpha {found.alpha:.4g}; {found.multiplicity})")


def _figure(estimate: Estimate) -> str:
    value = "?" if estimate.value is None else f"{estimate.value:.3f}"
    note = ", too few samples for more" if estimate.verdict == "too few samples" else ""
    return f"{value} ({estimate.low:.3f} to {estimate.high:.3f}{note})"
