import csv
import io

import numpy as np
import pytest

from vrdir_plug.evaluation import CLEAN, Condition, Report
from vrdir_plug.measures import Mean
from vrdir_plug.tables import compare, to_csv, to_markdown

NOISE, SATURATED = Condition("gaussian_noise", 3), Condition("saturate", 2)


def reported(**scores: list[list[int]]) -> Report:
    """A report from each restorer's top-1 under CLEAN, NOISE (seen) and SATURATED (unseen)."""
    conditions = [CLEAN, NOISE, SATURATED]
    found = {
        (condition, name): {"top-1": Mean(np.array(row, dtype=np.float64))}
        for name, rows in scores.items()
        for condition, row in zip(conditions, rows, strict=True)
    }
    images = [f"{index}.png" for index in range(len(scores["none"][0]))]
    return Report(
        {"size": 16},
        2000,
        ["top-1"],
        list(scores),
        conditions,
        images,
        [],
        [],
        {key: {} for key in found},
        found,
    )


TWO = reported(
    none=[[1, 1, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0]], ours=[[1, 1, 0, 0], [1, 0, 1, 0], [1] * 4]
)


def test_comparison_by_hand() -> None:
    rows = {row.condition: row for row in compare(TWO) if row.restorer == "ours"}
    assert list(rows) == [
        "clean",
        "gaussian_noise 3",
        "saturate 2",
        "mean over seen",
        "mean over unseen",
        "mean over corruptions",
    ]
    clean, noise, saturated, seen, unseen, mean = rows.values()
    assert (clean.baseline, clean.score, clean.recovery) == (0.75, 0.5, None)
    assert (noise.baseline, noise.score) == (0.25, 0.5)
    assert noise.recovery == pytest.approx((0.5 - 0.25) / (0.75 - 0.25))
    assert (saturated.baseline, saturated.score, saturated.recovery) == (0.75, 1.0, None)
    assert (seen.score, unseen.score, mean.baseline, mean.score) == (0.5, 1.0, 0.5, 0.75)
    assert mean.recovery == pytest.approx((0.75 - 0.5) / (0.75 - 0.5))
    assert noise.p == 1 and mean.p is None


def test_change_is_named_only_where_it_is_significant() -> None:
    half = [0, 1] * 20
    report = reported(none=[half, [0] * 40, half], ours=[half, [1] * 40, [1, 0] * 20])
    clean, noise, saturated, *_ = (row for row in compare(report) if row.restorer == "ours")
    assert (clean.change, clean.p, clean.low, clean.high) == ("no significant change", 1, 0, 0)
    assert noise.change == "better" and noise.p == pytest.approx(2 / 2**40)
    assert saturated.change == "no significant change" and saturated.low < 0 < saturated.high
    worse = reported(none=[half, [1] * 40, half], ours=[half, [0] * 40, half])
    assert [row.change for row in compare(worse) if row.restorer == "ours"][1] == "worse"


def test_mean_resamples_images_not_cells() -> None:
    rng = np.random.default_rng(0)
    noise, saturated = rng.integers(0, 2, (2, 50)).tolist()
    report = reported(none=[[1] * 50, [0] * 50, [0] * 50], ours=[[1] * 50, noise, saturated])
    together = reported(
        none=[[1] * 50, [0] * 50, [0] * 50],
        ours=[[1] * 50, noise, np.add(noise, saturated).tolist()],
    )
    mean = [row for row in compare(report) if row.restorer == "ours"][-1]
    double = [row for row in compare(together) if row.restorer == "ours"][2]
    assert (2 * mean.low, 2 * mean.high) == pytest.approx((double.low, double.high))


def test_markdown() -> None:
    lines = to_markdown(TWO).splitlines()
    assert lines[0] == (
        "| corruption | none top-1 | ours top-1 | difference [95 % CI] | change | recovery |"
    )
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert lines[2] == (
        "| clean | 75.0% | 50.0% | -25.0 [-75.0, +0.0] | no significant change (p 1) |  |"
    )
    assert lines[3].startswith("| gaussian_noise 3 | 25.0% | 50.0% | +25.0 [+0.0, +75.0] | no sig")
    assert lines[3].endswith("| 50% |")
    assert lines[-1] == "4 images; not in training in any form: saturate; size 16"


def test_markdown_of_the_baseline_alone() -> None:
    lines = to_markdown(reported(none=[[1, 1], [0, 1], [0, 0]])).splitlines()
    assert lines[0] == "| corruption | none top-1 |"
    assert lines[7] == "| mean over corruptions | 25.0% |"


def test_csv_has_a_line_for_every_comparison() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(TWO))))
    assert len(rows) == 2 * 6
    assert rows[7]["restorer"] == "ours" and rows[7]["condition"] == "gaussian_noise 3"
    assert float(rows[7]["score"]) == 0.5 and float(rows[7]["recovery"]) == 0.5
