"""Draws accuracy against PSNR, a point for each restorer, from what an evaluation found.

`python tools/draw_scatter.py run.json scatter.svg`, where run.json is of
`vrdir evaluate --fidelity --json run.json`. Means over the corruptions of that run.
"""

import json
import sys
from pathlib import Path
from typing import Any

from vrdir_plug.page import HEIGHT, WIDTH, marks

MEAN = "mean over corruptions"


def points_of(run: dict[str, Any], measure: str) -> dict[str, tuple[float, float]]:
    """PSNR in dB and the measure's share, by restorer."""
    means = {
        (row["restorer"], row["measure"]): row["score"]
        for row in run["comparisons"]
        if row["condition"] == MEAN
    }
    return {
        name: (means[name, "PSNR"], means[name, measure])
        for name in dict.fromkeys(name for name, _ in means)
    }


def main(source: str, target: str) -> None:
    run = json.loads(Path(source).read_text(encoding="utf-8"))
    measure = run["comparisons"][0]["measure"]
    if run["pipeline"]["fidelity"] != "measured":
        sys.exit(f"{source} has no PSNR: evaluate with --fidelity")
    inside = marks(points_of(run, measure), measure)
    Path(target).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="13"><rect width="100%" '
        f'height="100%" fill="white"/>{inside}</svg>\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
