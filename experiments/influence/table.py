"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.readme import fill, prose, source, table, values

REFERENCE = {
    "0.001": {
        "influence": ".9992 (1.07)",
        "corrected": ".9996 (1.00)",
        "1": "5.35e-4",
        "10": "3.60e-3",
        "100": "8.58e-3",
    },
    "0.0001": {
        "influence": ".9975 (1.33)",
        "corrected": ".9946 (.92)",
        "1": "4.85e-4",
        "10": "1.77e-2",
        "100": "4.01e-2",
    },
}
"""By penalty, what the reference gives: correlations (and slopes) of scores, distances left by so many removals."""

SLOPES = {"influence": "slope", "corrected": "corrected_slope"}

TEXT = """\
- Solvers: conjugate gradient {conjugate|.0e} from dense, Woodbury {woodbury|.0e} from direct Newton.
- Libraries: dattri {dattri|.0e} apart, kronfluence's EK-FAC and ours r = {oracle.kronfluence.ekfac|.3f}, its products
  of gradients {oracle.kronfluence.products|.0e} apart, curvlinops' matrices {curvlinops|.0e}.
- Per-sample gradients: {gradients.mlp.ratio|.1f} x a loop for a perceptron, {gradients.cnn.ratio|.1f} x for a
  convolutional network, whose per-sample kernels are grouped convolutions, slow on a CPU.
- REMOVALS removals one by one (n = STREAM): never farther than {stream.random.distance|.1e} from retraining where
  DISTANCE was stated ({stream.highest_loss.distance|.1e} for the highest losses first), {stream.random.mean|.0f} and
  {stream.highest_loss.mean|.0f} ms each; {stream.random.updated|.0f} and {stream.highest_loss.updated|.0f} of them by
  the rank-one change alone, {stream.random.refreshed|.0f} and {stream.highest_loss.refreshed|.0f} with a new inverse,
  the others with a correction."""


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value, setting = values(document), document["setting"]
    decays = [f"{decay:g}" for decay in setting["decays"]]

    def score(start: str, scores: str) -> str:
        return f"{value[f'{start}.{scores}']:.4f} ({value[f'{start}.{SLOPES[scores]}']:.2f})"

    left_out = [
        [
            decay,
            scores,
            f"{score(f'leave_one_out.{decay}.drawn', scores)}; {REFERENCE[decay][scores]}",
            score(f"leave_one_out.{decay}.redrawn", scores),
            score(f"leave_one_out.{decay}.all", scores),
        ]
        for decay in decays
        for scores in SLOPES
    ]
    removed = [
        [
            decay,
            f"{m}",
            f"{value[f'removal.{decay}.{m}.random.newton']:.2e} ({REFERENCE[decay][f'{m}']})",
            f"{value[f'removal.{decay}.{m}.random.newton_twice']:.1e}",
            f"{value[f'removal.{decay}.{m}.random.infinitesimal_jackknife']:.2g}",
            f"{value[f'removal.{decay}.{m}.random.projective_residual']:.2g}",
            f"{value[f'removal.{decay}.{m}.highest_loss.newton']:.2g}",
        ]
        for decay in decays
        for m in setting["removal"]["sizes"]
    ]
    speed = [
        [
            f"{m}",
            *fill(
                "{M.removal|.2f};{M.lbfgs_cold|.0f};{M.lbfgs_warm|.0f};{M.ratio_cold|.0f};{M.ratio_warm|.0f}".replace(
                    "{M.", f"{{speed.{m}."
                ),
                value,
            ).split(";"),
        ]
        for m in setting["speed"]["sizes"]
    ]

    def worst(start: str, end: str = "") -> float:
        return max(found for name, found in value.items() if name.startswith(start) and name.endswith(end))

    worsts = {
        "conjugate": worst("solvers.", "conjugate_gradient"),
        "woodbury": worst("solvers.", "woodbury"),
        "dattri": worst("oracle.dattri."),
        "curvlinops": worst("oracle.curvlinops."),
    }
    stream = setting["stream"]
    text = TEXT.replace("REMOVALS", f"{stream['removals']:,}").replace("STREAM", f"{stream['n']:,}")
    return "\n\n".join(
        [
            f"{source(document)}.",
            "Leave-one-out, Pearson's r (slope of the truth):",
            table(("λ", "scores", "drawn; reference", "redrawn", "all 800"), left_out),
            "Distance to retraining left by a removal, of that without one:",
            table(
                ("λ", "m", "Newton (reference)", "twice", "jackknife", "projective", "Newton, highest losses"), removed
            ),
            f"Speed, in milliseconds of the processor (n = {setting['speed']['n']:,}, d = {setting['speed']['d']}):",
            table(
                ("removed", "cached removal", "L-BFGS, cold", "warm", "times as fast, cold", "times as fast, warm"),
                speed,
            ),
            prose(text.replace("DISTANCE", f"{stream['distance']:g}"), value | worsts),
        ]
    )
