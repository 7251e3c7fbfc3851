"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.readme import prose, table

TWINS = """\
"By accuracy" looks at what the shards know, "by size" at how many records they hold. The published figures, by
accuracy, six shards and no noise: [0.890, 0.952] on CIFAR-10, [0.849, 0.922] on MNIST (the authors' code repository).
On lookup tables labels alone suffice: {twins.labels 0 1|.3f}; random requests: {twins.random 0 1|.3f}.

**Few requests are not safe.** Sizes and accuracies move little then, but one request can be chosen as a code for the
whole placement. A test that looks for the code finds it: {states.code 1 adaptive|.3f} with *one* request
(`states.code`).

The attack on answers uses what `forget` does at once: the shard abstains until `recover`, which shows what it had
voted."""

NOISY_TWINS = """\
On lookup tables (PAIRS pairs), one label a row and then 64: sigma 1: {twins.labels 1 1|.3f} and
{twins.labels 1 64|.3f}; 4: {twins.labels 4 1|.3f} and {twins.labels 4 64|.3f}; 16: {twins.labels 16 1|.3f} and
{twins.labels 16 64|.3f}; 32: {twins.labels 32 1|.3f} and {twins.labels 32 64|.3f}. At most, for one label:
{twins.labels 1 1 bound|.3g}, {twins.labels 4 1 bound|.3g}, {twins.labels 16 1 bound|.3g},
{twins.labels 32 1 bound|.3g}.

**Noise without a budget helps the adversary**: it turns votes that a label hides into frequencies. **Noise with a
budget costs accuracy**, less so with many shards, since epsilon does not depend on their number:"""

AFRESH = """\
That epsilon is about one subject: as if it had never been there, whatever others asked for. For "as if trained
afresh" all shards' votes must be hidden, and it is useless here: {least|.0f} at best, with 6 shards and sigma 16. So
the attack drops to 0.5 well before theory says that every attack must."""

ANEW = """\
After the requests, everyone who stays is placed under a fresh key and all shards are trained again, before anything
is published. Then deletion is exact whatever was published before, states included, since nothing of the old
randomness is left. Measured, INSIDE of the COUNT intervals (95 %) contain 0.5: ACCURACY by accuracy and SIZE by size
for REQUESTS requests; with the code, {states.code 1 adaptive, placed anew|.3f}. The cost is a full training for every
k requests, so 1/k of a training per request on top of SISA's 1/S; with k = S, twice SISA.

Between two such trainings nothing is promised: the k-th request meets the same partition as the first, and the code
needs only one."""

COPIED = """\
If others have themselves removed because of what the model said about u, their absence tells it after u is gone, and
after any retraining. Told correctly without noise: {copycat.labels 0 1|.3f}; one label at sigma 1:
{copycat.labels 1 1|.3f} (at most {copycat.labels 1 1 bound|.3f}); at sigma 4: {copycat.labels 4 1|.3f}
({copycat.labels 4 1 bound|.3f}); sixteen labels at sigma 16: {copycat.labels 16 16|.3f}
({copycat.labels 16 16 bound|.3f}). Only noise on what was published before helps, and here the bound is reached."""

ADAPTIVE, ANEW_NAME, RANDOM = "adaptive", "adaptive, placed anew", "random"
TESTS = ("accuracy", "size")


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    rows = {_key(row): row for row in document["figures"]}
    value = {name: row["indicator"] for name, row in rows.items()}
    value |= {f"{name} bound": row["bound"] for name, row in rows.items() if row["bound"] is not None}
    value["least"] = min(row["epsilon_afresh"] for row in document["accuracy"] if row["epsilon_afresh"] is not None)
    setting = document["setting"]
    return "\n\n".join(
        [
            f"`{document['command']}`, {document['seconds'] / 60:.0f} minutes (`result.json`).",
            "## Without protection",
            _unprotected(rows, setting),
            prose(TWINS, value),
            "## Noise on the votes, labels only",
            _noisy(rows, setting),
            prose(NOISY_TWINS.replace("PAIRS", f"{setting['twins']['pairs']}"), value),
            _costs(document["accuracy"]),
            prose(AFRESH, value),
            "## Placing everyone anew",
            prose(_anew(rows, setting["states"]["requests"]), value),
            "## What neither retraining nor placing anew repairs",
            prose(COPIED, value),
        ]
    )


def _key(row: Mapping[str, Any]) -> str:
    return " ".join(
        [row["name"], *(f"{said:g}" if isinstance(said, float) else f"{said}" for said in row["setting"].values())]
    )


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['indicator']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _unprotected(rows: Mapping[str, Mapping[str, Any]], setting: Mapping[str, Any]) -> str:
    lines = []
    for number in setting["states"]["requests"]:
        names = [f"states.{test} {number} {who}" for who in (ADAPTIVE, RANDOM) for test in TESTS]
        lines.append(["states", f"{number}", *(_interval(rows[name]) for name in names)])
    number = setting["votes"]["requests"]
    names = [f"answers.{test} {who} {number}" for who in ("vote shares", RANDOM) for test in TESTS]
    lines.append(["vote shares", f"1 + {number}", *(_interval(rows[name]) for name in names)])
    lines.append(
        ["labels", f"1 + {number}", *(_interval(rows[f"answers.{test} labels {number} 0 1"]) for test in TESTS), "", ""]
    )
    head = [f"{who}, by {test}" for who in (ADAPTIVE, RANDOM) for test in TESTS]
    return table(["published", "requests", *head], lines)


def _noisy(rows: Mapping[str, Mapping[str, Any]], setting: Mapping[str, Any]) -> str:
    start = f"labels {setting['votes']['requests']} "
    lines = []
    for name, row in rows.items():
        if not name.startswith(f"answers.accuracy {start}"):
            continue
        epsilon, bound = row["more"].get("epsilon"), row["bound"]
        lines.append(
            [
                f"{row['setting']['sigma']:g}",
                f"{row['setting']['labels_per_row']}",
                "" if epsilon is None else f"{epsilon:,.0f}",
                _interval(row),
                _interval(rows[name.replace("accuracy", "size", 1)]),
                "" if bound is None else f"{bound:.3g}",
            ]
        )
    delta = f"{setting['votes']['delta']:g}"
    return table(
        ("sigma", "labels a record, twice", f"epsilon (δ = {delta})", "by accuracy", "by size", "at most"), lines
    )


def _costs(costs: Sequence[Mapping[str, Any]]) -> str:
    shards = sorted({row["n_shards"] for row in costs})
    found = {(row["sigma"], row["n_shards"]): row for row in costs}
    lines = []
    for sigma in sorted({row["sigma"] for row in costs}):
        epsilon = found[sigma, shards[0]]["epsilon"]
        accuracies = (f"{found[sigma, number]['test_accuracy']:.3f}" for number in shards)
        lines.append([f"{sigma:g}", "" if epsilon is None else f"{epsilon:,.0f}", *accuracies])
    return table(("sigma", "epsilon of 1,000 labels", *(f"accuracy, {number} shards" for number in shards)), lines)


def _anew(rows: Mapping[str, Mapping[str, Any]], requests: Sequence[int]) -> str:
    anew = [row for row in rows.values() if row["setting"].get("requester") == ANEW_NAME]
    inside = sum(row["low"] <= 0.5 <= row["high"] for row in anew)
    words = {
        "INSIDE": "all" if inside == len(anew) else f"{inside}",
        "COUNT": f"{len(anew)}",
        "REQUESTS": ", ".join(map(str, requests)),
    }
    for test in TESTS:
        words[test.upper()] = ", ".join(
            f"{rows[f'states.{test} {number} {ANEW_NAME}']['indicator']:.3f}" for number in requests
        )
    text = ANEW
    for word, said in words.items():
        text = text.replace(word, said)
    return text
