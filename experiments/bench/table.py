"""The figures of the README, from `result.json` and, where it says so, `floor.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.readme import prose, short, source, table, values

FLOOR = Path(__file__).with_name("floor.json")

FORGET = """\
**Forget: {forget_ms|.0f} ms, {p99_ms|.0f} ms at the 99th percentile, for {forget_goal|.0f} and {p99_goal|.0f}
(`b.forget_median`, `b.forget_p99`).** {cpu_ms|.0f} ms of it are processor time (`b.forget_cpu`), in the same run as
what one request cannot do without:"""

FLOORS = """\
So a request is {b.forget_in_floors|.1f} floors (`b.forget_in_floors`). What is between: statements, three Merkle
proofs, the receipt read back in strict form before it is signed, and further syncs, without which a power loss could
bring something back (`unlearn/decisions/0023-exact-trees-and-the-floor-of-forget.md`). The floor alone is
{floor_of_goal|.0%} of the goal: with slices of 500 records of 600 numbers, {forget_goal|.0f} ms are out of reach for
a program that checks a slice's digest before it rewrites it. Smaller slices lower the floor; waiting for the disk
comes on top."""

REST = """\
**A fit against a `DataLoader` per shard: {h.fit_against_loader|.2f} x for {h.fit_against_loader goal|.2f} x
(`h.fit_against_loader`).** The loop takes {h.fit_against_loader baseline|.1f} s, so the goal is {loader_goal|.1f} s,
and a fit takes {h.fit_against_loader ours|.1f} s. Training is {f.kernel ours|.1f} s over two workers (`f.kernel`),
{kernel_half|.1f} s if nothing else were to be done: {kernel_of_loader|.2f} x. What the goal leaves for everything
else is {left|.1f} s, and ingesting alone takes {f.ingest ours|.1f} s (`f.ingest`), in one process, of which digests,
files, placement and copies are {by_hand|.1f} s (`f.driver.…`) and the ledger's rows, with the tree over them, most of
the rest. Ingest would have to be spread over the workers, as `ingest_parquet` does. Against the bare loop a warm fit
takes {a.fit_warm|.2f} x, with a goal of {a.fit_warm goal|.1f}.

**16 requests against one training unsharded: {h.requests_against_plain|.2f} x for {h.requests_against_plain goal|.1f}
x (`h.requests_against_plain`).** One model without shards is as good as the ensemble after {passes|.0f} passes
(`h.plain_accuracy`), {plain_visits|,.0f} record-visits. 16 requests hit so many of 20 shards that recovering makes
{d.visits ours|,.0f} (`d.visits`), {more|.1f} times as many: sharding does not pay at K = 16 here, and that we are
below 1 at all is the kernel's doing. At its speed, {all_visits|,.0f} visits in {f.kernel ours|.1f} s of one process,
two workers need {repair|.1f} s for them, {repair_of_plain|.2f} x of the {h.requests_against_plain baseline|.2f} s, if
forgetting and all else cost nothing. The goal would take fewer visits: more shards, or placement by risk (`unlearn
plan`).

**Predicting 10,000 rows: {i.predict_many|.2f} x for {i.predict_many goal|.2f} x (`i.predict_many`).** 10,000 rows
times 20 first layers of 600 x 128 are {operations|.1f} · 10⁹ operations in single precision; in
{i.predict_many ours|.3f} s that is {rate|.0f} · 10⁹ a second, on one core. Both sides are bound by it; three times as
fast does not exist on this processor with these bits.

**Predicting one row: {i.predict_one|.2f} x for {i.predict_one goal|.2f} x (`i.predict_one`).** {one_ms|.2f} ms where
the goal is {one_goal|.2f} ms. About a sixth of the 600 inputs are not zero, so a megabyte of weights is read instead
of six; the rest is Python: checking the features, asking twice whether anything was withdrawn, joining 20 outputs.
Being asked before *and* after is what §3.5 of the design demands.

**The ledger's share of a fit: {f.driver.ledger|.0%} of the time, {f.driver.ledger_cpu|.0%} of the processor time, for
5 % (`f.driver.ledger`, `f.driver.ledger_cpu`).** The wall time of the driver, {f.driver.ledger ours|.2f} s, is spent
while two workers on two cores train: a step's record waits for the disk and for a core, and delays nobody. The
processor time is {f.driver.ledger_cpu ours|.2f} s of {a.fit_cpu ours|.1f} s. Taken apart in another run (`python -m
experiments.bench.floor`, `floor.json`) it is {ledger_cpu|.2f} s, of which {f.ledger_cpu.ingest|.2f} s are 50,000 rows
with two indexes and the tree over them, in one transaction, the rest 100 steps and the looks between them. Digests
and files of the driver are another {bytes_share|.0%}, {bytes|.2f} s (`f.driver.digests`, `f.driver.files`): each byte
of 120 MB is digested once and written once."""


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value = _sides(document)
    apart = values(json.loads(FLOOR.read_text(encoding="utf-8")))
    value |= {name: found for name, found in apart.items() if name.startswith("f.ledger_cpu.")}
    what = {figure["name"]: figure["what"] for figure in document["figures"]}
    value["passes"] = float(what["h.plain_accuracy"].rpartition("after ")[2].removesuffix(" passes"))
    value |= _derived(value, document["setting"])
    floors = [
        ["4 commits of one row, synced", f"{4000 * value['b.floor_commit']:.1f}"],
        ["one Ed25519 signature over 8 kB", f"{1000 * value['b.floor_signature']:.1f}"],
        [
            "one slice of 500 records read, digested, written without one, synced, the old one unlinked",
            f"{1000 * value['b.floor_rewrite']:.1f}",
        ],
        ["floor (`b.floor`)", f"{1000 * value['b.floor']:.1f}"],
    ]
    return "\n\n".join(
        [
            f"{source(document)}.",
            _all(document),
            "## What was not reached, and why",
            prose(FORGET, value),
            table(("what one request cannot do without, processor time", "ms"), floors),
            prose(FLOORS, value),
            prose(REST, value),
        ]
    )


def _sides(document: Mapping[str, Any]) -> dict[str, float]:
    found = values(document)
    for figure in document["figures"]:
        for side in ("goal", "ours", "baseline"):
            if figure[side] is not None:
                found[f"{figure['name']} {side}"] = figure[side]
    return found


def _derived(value: Mapping[str, float], setting: Mapping[str, Any]) -> dict[str, float]:
    """What follows from figures by arithmetic."""
    loader_goal = value["h.fit_against_loader goal"] * value["h.fit_against_loader baseline"]
    kernel = value["f.kernel ours"]
    all_visits = setting["records"] * setting["epochs"]
    plain = value["h.requests_against_plain baseline"]
    repair = kernel * value["d.visits ours"] / all_visits / setting["workers"]
    operations = 2 * setting["predicted_rows"] * setting["n_shards"] * setting["features"] * setting["hidden"] / 1e9
    copies = ("f.driver.check_and_copy", "f.driver.placement", "f.driver.digests", "f.driver.files")
    return {
        "forget_ms": 1000 * value["b.forget_median"],
        "p99_ms": 1000 * value["b.forget_p99"],
        "forget_goal": 1000 * value["b.forget_median goal"],
        "p99_goal": 1000 * value["b.forget_p99 goal"],
        "cpu_ms": 1000 * value["b.forget_cpu"],
        "floor_of_goal": value["b.floor"] / value["b.forget_median goal"],
        "loader_goal": loader_goal,
        "kernel_half": kernel / setting["workers"],
        "kernel_of_loader": kernel / setting["workers"] / value["h.fit_against_loader baseline"],
        "left": loader_goal - kernel / setting["workers"],
        "by_hand": sum(value[f"{name} ours"] for name in copies),
        "plain_visits": value["passes"] * setting["records"],
        "more": value["d.visits ours"] / (value["passes"] * setting["records"]),
        "all_visits": all_visits,
        "repair": repair,
        "repair_of_plain": repair / plain,
        "operations": operations,
        "rate": operations / value["i.predict_many ours"],
        "one_ms": 1000 * value["i.predict_one ours"],
        "one_goal": 1000 * value["i.predict_one goal"] * value["i.predict_one baseline"],
        "ledger_cpu": value["f.ledger_cpu.ingest"] + value["f.ledger_cpu.train"],
        "bytes": value["f.driver.digests ours"] + value["f.driver.files ours"],
        "bytes_share": value["f.driver.digests"] + value["f.driver.files"],
    }


def _all(document: Mapping[str, Any]) -> str:
    rows = [
        [
            f"`{figure['name']}`",
            f"{short(figure['value'])} {figure['unit']}",
            *(short(figure[side]) for side in ("goal", "ours", "baseline")),
            {None: "", True: "reached", False: "missed"}[figure["passed"]],
        ]
        for figure in document["figures"]
    ]
    return table(("figure", "value", "goal", "ours", "baseline", ""), rows)
