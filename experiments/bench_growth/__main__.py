"""`python -m experiments.bench_growth`: measure, then draw; `--draw` draws what was measured before."""

from pathlib import Path

from experiments.bench_growth.plot import draw
from experiments.bench_growth.run import BENCHMARK


def main() -> None:
    """Parse the command line and run."""
    parser = BENCHMARK.parser()
    parser.add_argument("--draw", action="store_true", help="measure nothing: draw the figures that are there")
    given = parser.parse_args()
    output: Path = given.output or BENCHMARK.usual_output(quick=given.quick)
    if not given.draw:
        BENCHMARK.run(BENCHMARK.setting(quick=given.quick), output)
    print(f"drawn in {draw(output)}")


if __name__ == "__main__":
    main()
