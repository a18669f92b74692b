"""What an evaluation found, as Markdown, JSON and CSV: the same report gives the same bytes."""

import csv
import functools
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from .corruptions import UNSEEN
from .evaluation import CLEAN, Condition, Report, title
from .measures import Mean, Score, Scores, draws, interval, mcnemar

FIDELITY = ("PSNR", "SSIM")


@dataclass(frozen=True)
class Comparison:
    """A restorer's score against the baseline's, in a condition or as a mean over conditions.

    `low` to `high` holds `score - baseline` with 95 % confidence (paired bootstrap over images).
    `p` is McNemar's, exact, where every image is right or wrong; else None. `change` is "better"
    or "worse" where p < 0.05 (without p: where the interval leaves 0 out), else "no significant
    change". `recovery` is the share of what was lost that came back, (score - baseline) /
    (clean - baseline) with the baseline's own clean score; None where nothing was lost.
    """

    condition: str
    measure: str
    restorer: str
    baseline: float
    score: float
    low: float
    high: float
    p: float | None
    change: str
    recovery: float | None


def compare(report: Report) -> list[Comparison]:
    """Every measure, restorer and condition: CLEAN first, the means over conditions last."""
    resampled = resample(report)
    return [
        comparison(report, resampled, measure, name, row, conditions)
        for measure in report.measures
        for name in report.restorers
        for row, conditions in rows_of(report.conditions).items()
    ]


def rows_of(conditions: Sequence[Condition]) -> dict[str, list[Condition]]:
    """The rows of a table, by title: the conditions each is the mean of."""
    corrupted = [condition for condition in conditions if condition.severity]
    unseen = [condition for condition in corrupted if condition.corruption in UNSEEN]
    means = {
        "mean over seen": [condition for condition in corrupted if condition not in unseen],
        "mean over unseen": unseen,
        "mean over corruptions": corrupted,
    }
    single = {title(condition): [condition] for condition in conditions}
    return single | {name: among for name, among in means.items() if among}


Resampled = dict[tuple[Condition, str, str], Scores]


@functools.lru_cache(maxsize=1)
def resample(report: Report) -> Resampled:
    """Each score on the same bootstrap draws: (B,), by condition, restorer and measure."""
    scores = {
        (condition, name, measure): score
        for (condition, name), found in report.scores.items()
        for measure, score in found.items()
    }
    chunks = [
        [score.drawn(counts) for score in scores.values()]
        for counts in draws(len(report.images), report.resamples)
    ]
    return dict(zip(scores, map(np.concatenate, zip(*chunks, strict=True)), strict=True))


def comparison(
    report: Report,
    resampled: Resampled,
    measure: str,
    name: str,
    row: str,
    conditions: Sequence[Condition],
) -> Comparison:
    baseline = report.restorers[0]
    pairs = [
        (report.scores[c, baseline][measure], report.scores[c, name][measure]) for c in conditions
    ]
    before, after = (float(np.mean([pair[side].value for pair in pairs])) for side in (0, 1))
    clean = report.scores[CLEAN, baseline][measure].value
    lost = conditions != [CLEAN] and clean > before and measure not in FIDELITY
    low, high = interval(
        np.mean(
            [resampled[c, name, measure] - resampled[c, baseline, measure] for c in conditions], 0
        )
    )
    p = exact_p(*pairs[0]) if len(pairs) == 1 else None
    significant = p < 0.05 if p is not None else low > 0 or high < 0
    change = ("better" if after > before else "worse") if significant else "no significant change"
    recovery = (after - before) / (clean - before) if lost else None
    return Comparison(row, measure, name, before, after, low, high, p, change, recovery)


def exact_p(before: Score, after: Score) -> float | None:
    """McNemar's p of two scores that are means of right (1) and wrong (0)."""
    if not (isinstance(before, Mean) and isinstance(after, Mean)):
        return None
    if not np.isin(np.concatenate([before.values, after.values]), (0, 1)).all():
        return None
    return mcnemar(before.values, after.values)


def to_markdown(report: Report) -> str:
    """A table for each measure, the baseline first, then every restorer with its difference."""
    rows = compare(report)
    tables = [markdown_table(report, [r for r in rows if r.measure == m]) for m in report.measures]
    left_out = [
        f"; {len(lines)} images {what}"
        for lines, what in (
            (report.skipped, "could not be read and are left out"),
            (report.failed, "had no answer and count as not recognised"),
        )
        if lines
    ]
    facts = "; ".join(f"{key} {value}" for key, value in report.pipeline.items())
    unseen = sorted({c.corruption for c in report.conditions} & set(UNSEEN))
    note = f"; not in training in any form: {', '.join(unseen)}" if unseen else ""
    counts = f"{len(report.images)} images{''.join(left_out)}{note}"
    return "\n\n".join([*tables, f"{counts}; {facts}"]) + "\n"


def markdown_table(report: Report, rows: Sequence[Comparison]) -> str:
    baseline, *others = report.restorers
    measure = rows[0].measure
    header = ["corruption", f"{baseline} {measure}"]
    lines = [[r.condition, number(measure, r.score)] for r in rows if r.restorer == baseline]
    for name in others:
        header += [f"{name} {measure}", "difference [95 % CI]", "change", "recovery"]
        for line, row in zip(lines, (r for r in rows if r.restorer == name), strict=True):
            line += comparison_cells(row)
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *lines])


def comparison_cells(row: Comparison) -> list[str]:
    difference, low, high = (
        number(row.measure, value, sign=True)
        for value in (row.score - row.baseline, row.low, row.high)
    )
    p = "" if row.p is None else f" (p {row.p:.2g})"
    recovery = "" if row.recovery is None else f"{row.recovery:.0%}"
    return [
        number(row.measure, row.score),
        f"{difference} [{low}, {high}]",
        row.change + p,
        recovery,
    ]


def number(measure: str, value: float, sign: bool = False) -> str:
    """Shares in percent, their differences in points; PSNR in dB."""
    digits, factor, unit = {"PSNR": (2, 1, ""), "SSIM": (3, 1, "")}.get(measure, (1, 100, "%"))
    return f"{factor * value:+.{digits}f}" if sign else f"{factor * value:.{digits}f}{unit}"


def to_json(report: Report) -> str:
    """Every cell, image by image, and every comparison."""
    cells = [
        {"corruption": condition.corruption, "severity": condition.severity, "restorer": name}
        | {"n": len(report.images)}
        | {measure: score.value for measure, score in report.scores[condition, name].items()}
        | {"images": cell}
        for (condition, name), cell in report.cells.items()
    ]
    content = {
        "pipeline": dict(report.pipeline),
        "images": list(report.images),
        "skipped": list(report.skipped),
        "failed": list(report.failed),
        "cells": cells,
        "comparisons": [asdict(row) for row in compare(report)],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def missing_of(report: Report) -> list[str]:
    """A line for each image that was left out or had no answer, with its reason."""
    left_out = [f"left out {line}" for line in report.skipped]
    return left_out + [f"no answer for {line}" for line in report.failed]


def to_csv(report: Report) -> str:
    """A line for every comparison."""
    file = io.StringIO()
    rows = [asdict(row) for row in compare(report)]
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
