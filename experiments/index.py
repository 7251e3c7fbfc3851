"""`python -m experiments.index`: write the table of `experiments/README.md` from what each experiment says of itself.

Question, command and data come from its README, time and figures from its `result.json`. Nothing is measured.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.readme import fill, put_tables, values

HERE = Path(__file__).parent

SENTENCES: Mapping[str, str] = {
    "adapters": "accuracy in shards {adapters.shards.accuracy|.3f}, as one model {adapters.one.accuracy|.3f}, with "
    "{adapters.shards.checkpoint|.0%} of the numbers in a checkpoint; recovery is exact",
    "attack_calibration": "{null.verdict|.1%} of honest deletions refuted at a level of 5 %, {kept.verdict|.0%} of "
    "those that forgot nothing",
    "attack_strength": "loss attack on published posteriors: AUC {plain.loss.auc|.3f}, {defended.loss.auc|.3f} if "
    "they are defended",
    "attack_strength_images": "AUC of the loss {cifar.loss.auc|.2f}, of LiRA {cifar.lira_online.auc|.2f}",
    "audit_planted": "{honest|.1%} of honest deletions refuted; one shard of ten that was kept, found in "
    "{one_shard_kept|.0%} with all records and {few:one_shard_kept|.0%} with a hundred",
    "audit_writers": "one shard of five that was kept is found from {one_shard_kept.needed|.0f} writers on, all of "
    "them from {nothing_done.needed|.0f}",
    "bench": "training takes {a.fit_warm|.2f} of a hand-written loop, recovering one request {c.recover_one|.2f}; a "
    "durable forget {b.forget_median|.3f} s",
    "bench_audit": "an audit of the demonstration: {demo.labels|.0f} s, with shadow models {demo.shadows|.0f} s",
    "bench_ingest": "{ingest.rate|.0f} MB/s through two workers; the program itself needs {driver|.0f} MB",
    "bench_ledger": "{submit.1x64|,.0f} requests a second; 100,000 subjects forgotten in {subjects.forget|.0f} s",
    "bench_ray": "Ray adds {overhead.task|.0f} ms to a shard; two workers gain {workers.ray.gain|.2f} times",
    "certified": "in {bounds.removals|,.0f} removals the residual was at most {bounds.worst|.0%} of its bound",
    "emulation": "accuracy {real|.3f} from the images, {image.2|.3f} from an emulation with epsilon 2 for an image, "
    "{writer.2|.3f} for a writer",
    "forget_exact": "ridge: accuracy {accuracy|.3f}, a writer gone in {writer|.0f} ms, a record in {record|.0f} ms",
    "forget_people": "sharding pays up to {writers.largest.together.layout|.0f} writers together, "
    "{writers.largest.one_by_one.layout|.0f} one by one; accuracy {writers.sharded.accuracy|.3f}, as one model "
    "{writers.whole.accuracy|.3f}",
    "forget_poison": "backdoor: success {backdoor.before.success|.1%} before, {backdoor.recovered.success|.1%} after, "
    "{backdoor.never.success|.1%} had it never been there",
    "frozen_heads": "heads in 20 shards lose {writers.heads.slices_1.lost|.3f} of accuracy, networks "
    "{writers.networks.slices_1.lost|.3f}",
    "influence": "removing 1 of 60,000 is {speed.1.ratio_warm|.0f} times as fast as L-BFGS; leave-one-out r = "
    "{leave_one_out.0.001.drawn.influence|.4f}",
}
"""What to say of an experiment with named figures; each stands as `{name|format}`."""


@dataclass(frozen=True)
class Experiment:
    """What an experiment says of itself.

    Attributes:
        name: Of its folder.
        question: Title of its README.
        command: The first one there.
        quick: The command that does a fraction, or None.
        data: Folders below `UNLEARN_DATA` that it needs.
        result: Its `result.json`, or None.
        picture: Its picture, or None.
    """

    name: str
    question: str
    command: str
    quick: str | None
    data: tuple[str, ...]
    result: Any
    picture: str | None


def read(folder: Path) -> Experiment:
    """Read an experiment's folder.

    Args:
        folder: Holds a README.md.

    Returns:
        What is there.

    Raises:
        ValueError: If the README has no title, or no command though there is a result.
    """
    text = (folder / "README.md").read_text(encoding="utf-8")
    title = re.match(r"# (.+)\n", text)
    if title is None:
        raise ValueError(f"{folder / 'README.md'} does not begin with a title: begin it with the question")
    lines = [line.partition("#")[0].strip() for line in re.findall(r"^    ((?:python|make) .*)$", text, re.MULTILINE)]
    file = folder / "result.json"
    result = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    if result is not None and not lines:
        raise ValueError(f"{folder / 'README.md'} names no command: give it, indented, below the title")
    needs = " ".join(re.findall(r"\(`UNLEARN_DATA/[^)]*\)", text))
    return Experiment(
        name=folder.name,
        question=title[1],
        command=lines[0] if lines else "",
        quick=next((line for line in lines if line.endswith(" --quick")), None),
        data=tuple(dict.fromkeys(re.findall(r"`(?:UNLEARN_DATA/)?(\w+)`", needs))),
        result=result,
        picture=next((path.name for path in sorted(folder.glob("*.svg"))), None),
    )


def experiments(folder: Path = HERE) -> list[Experiment]:
    """All experiments, by name."""
    return [read(path.parent) for path in sorted(folder.glob("*/README.md"))]


def duration(experiment: Experiment) -> str:
    """How long it took, as its result says.

    Args:
        experiment: One that has a result.

    Returns:
        Seconds, minutes or hours; of processor time where that is what was noted; empty if nothing was, or that of
        another command, such as one that measured a part.
    """
    result = experiment.result
    if result.get("command", experiment.command) != experiment.command:
        return ""
    if "seconds" in result:
        seconds, of = float(result["seconds"]), ""
    elif "processor_seconds" in result:
        seconds, of = float(result["processor_seconds"]), " of processor time"
    elif "minutes" in result:
        seconds, of = 60 * float(result["minutes"]), ""
    else:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s{of}"
    return (f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h") + of


def finding(experiment: Experiment) -> str:
    """What was found, in figures of its result.

    Args:
        experiment: One that has a result.

    Returns:
        A sentence without a full stop; as much of it as the result has figures for.
    """
    parts = [_sentence(experiment), _goals(experiment)]
    return re.sub(r"(?<=\d)%", " %", "; ".join(part for part in parts if part))


def _sentence(experiment: Experiment) -> str:
    if experiment.name in _FOUND:
        return _FOUND[experiment.name](experiment.result)
    known = values({"figures": [item for item in experiment.result.get("figures", ()) if "value" in item]})
    sentence = SENTENCES.get(experiment.name, "")
    if any(name not in known for name, _ in re.findall(r"\{([^{}|]+)\|([^{}]+)\}", sentence)):
        return ""
    return fill(sentence, known)


def _goals(experiment: Experiment) -> str:
    figures = experiment.result.get("figures", ()) if isinstance(experiment.result, dict) else ()
    counts = Counter(item.get("passed") for item in figures)
    judged = counts[True] + counts[False]
    return f"{counts[True]} of {judged} goals reached" if judged else ""


def _adaptive(result: Any) -> str:
    rows = [row for row in result["figures"] if row["name"] == "states.code"]
    return f"one chosen request is recognised with probability {rows[0]['indicator']:.2f}" if rows else ""


def _calibration(result: Any) -> str:
    null = [row for row in result["rates"] if row["setting"] == "exact unlearning"]
    largest = {group: max(row["rate"] for row in null if (row["group"] == "ours") == group) for group in (True, False)}
    return f"false alarms of our bounds {largest[True]:.1%} at most, of other rules up to {largest[False]:.0%}"


def _verdicts(result: Any) -> str:
    counts = Counter(row["verdict"] for row in result["rows"])
    return "of the claims and tests " + ", ".join(f"{count}: {verdict}" for verdict, count in counts.items())


def _cells(result: Any) -> str:
    return f"{len(result['cells'])} cells measured"


def _editing(result: Any) -> str:
    def shares(row: str, *kinds: str, mode: str = "single/10") -> str:
        start = f"gpt2, 64 x 3/{row}/{mode}/"
        cells = [cell for name, cell in result["cells"].items() if name.startswith(start)]
        return " / ".join(f"{np.mean([100 * cell[kind] for cell in cells]):.0f}" for kind in kinds)

    asked, same = ("reliability", "generalization", "locality"), "attribute_locality"
    return (
        f"ROME {shares('rome', *asked)} (reliability, generalization, locality) with {shares('rome', same)} % of the "
        f"same subject's attributes kept, at the prompt's last token {shares('rome-last', *asked)} with "
        f"{shares('rome-last', same)} %; thirty edits by MEMIT {shares('memit', *asked, mode='batch/30')}, at the last "
        f"token and searched together {shares('memit-last-together', *asked, mode='batch/30')}"
    )


def _tofu(result: Any) -> str:
    def hidden(name: str) -> float:
        return float(np.mean([result["cells"][f"{name}/{seed}"]["hidden"] for seed in result["setting"]["seeds"]]))

    return (
        f"NPO leaves {hidden('npo/none'):.2f} of what it is to forget, and {hidden('npo/relearnt'):.2f} once the other "
        f"half was shown again for ten steps; a model trained without it knows {hidden('retrained/relearnt'):.3f} then"
    )


def _steering(result: Any) -> str:
    def mean(part: str, name: str) -> float:
        cells = (result["cells"][f"{part}/{seed}"] for seed in result["setting"]["seeds"])
        return float(np.mean([cell["steered"]["1.0"][name] for cell in cells]))

    hidden, unwanted, right = mean("forgetting", "some"), mean("style", "unwanted"), mean("task", "exact")
    return (
        f"at alpha 1 the base model tells {hidden:.0%} of what it is to hide, says something unwanted in "
        f"{unwanted:.1%} of its texts, and does {right:.0%} of a task that it did not do"
    )


def _switches(result: Any) -> str:
    ratios = [row["ratio"] for row in result["rows"]]
    return f"{min(ratios):.2f} to {max(ratios):.2f} times the time without"


def _faults(result: Any) -> str:
    tried, lost = (sum(kind[name] for kind in result.values()) for name in ("tried", "lost"))
    return f"{tried:,} faults tried, {lost:,} losses"


_FOUND: Mapping[str, Callable[[Any], str]] = {
    "adaptive_deletion": _adaptive,
    "approximate": _cells,
    "audit_calibration": _calibration,
    "definitions": _verdicts,
    "editing": _editing,
    "faults": _faults,
    "numeric_switches": _switches,
    "steering": _steering,
    "tofu": _tofu,
}
"""What to say of an experiment whose result is not a list of named figures."""


def table(found: list[Experiment]) -> str:
    """The index.

    Args:
        found: All experiments.

    Returns:
        Markdown.
    """
    lines = ["| question | command | time | data | found |", "| --- | --- | --: | --- | --- |"]
    for item in found:
        if item.result is None:
            continue
        picture = f"[picture]({item.name}/{item.picture})" if item.picture else ""
        said = "; ".join(part for part in (finding(item), picture) if part)
        data = ", ".join(f"`{name}`" for name in item.data)
        question = f"[{item.question}]({item.name}/README.md)"
        lines.append(f"| {question} | `{item.command}` | {duration(item)} | {data} | {said.replace('|', '/')} |")
    others = [f"[{item.question}]({item.name}/README.md)" for item in found if item.result is None]
    return "\n".join(lines) + ("\n\nWithout figures of its own: " + ", ".join(others) + "." if others else "")


def main() -> None:
    """Write the table."""
    put_tables(table(experiments()), HERE / "README.md")


if __name__ == "__main__":
    main()
