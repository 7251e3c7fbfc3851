"""A workspace attacked by its owner: what its model says of members, of the forgotten, and of who never came.

Forgotten records are presented again, as in `presented`; held-out ones must never have come. Both are used in memory
and stored nowhere, and no shadow model is trained on either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shards.learners.base import Features, StepData
from shards.records import Records, fit_records
from unlearn.audit.attack_audit import AttackAudit, AttackPlan, People, audit_by_attacks
from unlearn.audit.shadow_ensembles import Recipe, joint_outputs, shadow_outputs
from unlearn.audit.shadows import Progress
from unlearn.audit.shown import SERVED, Shadowing, Shown
from unlearn.errors import InputError, some
from unlearn.ledger import BuiltStep
from unlearn.lookup import records_of
from unlearn.presented import Members, Presented, facts_of, match, members_of, places, served_state
from unlearn.request import RequestState
from unlearn.site import Site


def attack_presented(
    site: Site,
    records: Records,
    request_id: str | None,
    plan: AttackPlan,
    held_out: Records | None,
    *,
    state_digest: str,
    alpha: float,
    permutations: int,
    seed: int,
    progress: Progress | None = None,
) -> AttackAudit:
    """Audit the served model by attacks.

    Args:
        site: The workspace, which nobody changes meanwhile.
        records: Forgotten records.
        request_id: The request whose records to test, or None: of all.
        plan: What to try.
        held_out: Records that never came; None: there are none, and nothing is tested.
        state_digest: Of the served states.
        alpha: Probability of refuting exact unlearning.
        permutations: Rearrangements to draw.
        seed: Of all that is drawn.
        progress: Told of shadow states that are trained.

    Returns:
        The result.

    Raises:
        UnknownIdError: If records match no request, or none can be tested.
        InputError: If they do not fit, are held out and were here, or nothing can be tested; says why.
    """
    task = site.task()
    if task.kind != "classification":
        raise InputError(
            f"attacks look at class probabilities, and {site.path} predicts numbers: audit it without --attack"
        )
    presented = match(site, records, request_id)
    # Of one model that an approximate method made, no shard lost a state.
    waiting = [
        request.id
        for request in presented.requests
        if request.state is RequestState.FORGOTTEN and not request.is_approximate
    ]
    if waiting:
        raise InputError(
            f"{len(waiting)} of the requests are not recovered ({some(sorted(waiting))}), and which states a shard "
            "lost tells of the forgotten: run `unlearn recover`, then audit"
        )
    others = None if held_out is None else _never_here(site, fit_records(held_out, task), presented)
    steps = sorted(site.ledger.served()[1], key=lambda step: step.shard)
    if not steps:
        raise InputError(f"no shard of {site.path} serves a state, so there is no model to attack: train first")
    members = members_of(site, steps, plan.members)
    shown, people = _shown(site, steps, members, presented, others, plan, seed, progress)
    facts = facts_of(site, presented, state_digest, len(presented.records), presented.set_aside)
    return audit_by_attacks(shown, people, plan, facts, alpha=alpha, permutations=permutations, seed=seed)


def _never_here(site: Site, held_out: Records, presented: Presented) -> Records:
    """Refuse held-out records that came, are forgotten, or are presented as such; or whose subjects are."""
    tokens = {
        kind: site.tokens(kind, ids) for kind, ids in (("record", held_out.record_ids), ("subject", held_out.subjects))
    }
    dead = site.ledger.forgotten_by([*{*tokens["record"], *tokens["subject"]}])
    here = {item.token for item in site.ledger.locations(tokens["record"])}
    staying = records_of(site, sorted(set(held_out.subjects)))
    shown_records, shown_subjects = set(presented.records.record_ids), set(presented.names)
    known = [
        name
        for name, subject, record_token, subject_token in zip(
            held_out.record_ids, held_out.subjects, tokens["record"], tokens["subject"], strict=True
        )
        if dead.keys() & {record_token, subject_token}
        or record_token in here
        or subject in staying
        or name in shown_records
        or subject in shown_subjects
    ]
    if known:
        raise InputError(
            f"{len(known)} of the {len(held_out)} held-out records ({some(known)}) are in {site.path}, were forgotten "
            "there, or are of subjects that were: hold out records of subjects that never came, under names of their "
            "own; nothing was tested"
        )
    return held_out


def _shown(
    site: Site,
    steps: Sequence[BuiltStep],
    members: Members,
    presented: Presented,
    others: Records | None,
    plan: AttackPlan,
    seed: int,
    progress: Progress | None,
) -> tuple[Shown, People]:
    """Ask the model, its parts and its shadows about all records: members first, then forgotten, then held out."""
    task, learner, votes = site.task(), site.learner, site.declaration.votes
    rule = "vote" if votes is not None else str(site.declaration.aggregation)
    recipe = Recipe(learner, task, rule, site.declaration.n_shards)
    data = _joined(members.parts)
    shards = [np.array([step.shard for step in steps])[members.labels][members.rows], presented.shards[presented.rows]]
    parts = [(data.features, data.target), (presented.records.features, presented.records.target)]
    subjects = [*(f"member {row}" for row in members.rows.tolist()), *presented.records.subjects]
    if others is not None:
        names, rows = np.unique(others.subjects, return_inverse=True)
        shards.append(places(site, others, names.tolist(), rows)[0][rows])
        parts.append((others.features, others.target))
        subjects += others.subjects
    asked = learner.prepare(
        {name: np.concatenate([features[name] for features, _ in parts]) for name in parts[0][0]}, task
    )
    kind = np.repeat(np.arange(len(parts)), [len(target) for _, target in parts])
    states = {step.shard: served_state(site, step) for step in steps}
    column = np.full(site.declaration.n_shards, -1, dtype=np.int64)
    column[[step.shard for step in steps]] = np.arange(len(steps))
    shown = Shown(
        served=joint_outputs(recipe, states, {step.shard: step.records for step in steps}, asked),
        parts=np.stack([learner.predictor(states[step.shard], task)(asked) for step in steps]),
        shard=column[np.concatenate(shards)],
        labels=np.concatenate([target for _, target in parts]),
        is_presented=kind > 0,
        shadows=_shadowing(recipe, data, members, len(kind), plan, seed, asked, progress),
    )
    return shown, People(subjects, kind == 1, kind == 2)


def _shadowing(
    recipe: Recipe,
    data: StepData,
    members: Members,
    n: int,
    plan: AttackPlan,
    seed: int,
    asked: Features,
    progress: Progress | None,
) -> Shadowing | None:
    if not any(SERVED[name].needs_shadows for name in plan.attacks):
        return None
    said, halves = shadow_outputs(recipe, data, members.rows, plan.shadows, seed, asked, progress)
    membership = np.zeros((plan.shadows, n), dtype=np.bool_)
    membership[:, : halves.shape[1]] = halves
    return Shadowing(said, membership)


def _joined(parts: Sequence[StepData]) -> StepData:
    return StepData(
        {name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features},
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.tokens for part in parts]),
    )
