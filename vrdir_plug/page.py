"""A report as one HTML page: no script, nothing from elsewhere, readable on a phone."""

from collections.abc import Callable, Sequence
from html import escape

from .evaluation import Report
from .tables import Comparison, compare, comparison_cells, number

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: auto; max-width: 60rem; padding: 1rem; }
h1, h2 { line-height: 1.2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; white-space: nowrap; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.better { color: #00622b; } .worse { color: #a30d0d; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: .85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; max-width: 40rem; font: 13px system-ui, sans-serif; }
"""
HELP = """<p>The first column is the recogniser alone. Differences are in points, with their 95 %
interval (paired bootstrap over images). "Better" and "worse" mean p &lt; 0.05 in McNemar's exact
test or, where an image is not just right or wrong, that the interval leaves out 0.</p>"""


def to_html(report: Report) -> str:
    """The tables, what came back of each corruption's loss, and accuracy against PSNR."""
    rows = compare(report)
    main = [row for row in rows if row.measure == report.measures[0]]
    body = [
        "<h1>Does restoration help?</h1>",
        f"<p>{len(report.images)} images; {len(report.skipped)} could not be read, "
        f"{len(report.failed)} answers are missing.</p>",
        HELP,
        *(bars(main, name) for name in report.restorers[1:]),
        *([scatter(report, rows)] if "PSNR" in report.measures else []),
    ]
    for measure in report.measures:
        body.append(table(report, measure, [row for row in rows if row.measure == measure]))
    body += [facts(report), *problems(report)]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>vrdir evaluate</title><style>{STYLE}</style></head>\n<body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def table(report: Report, measure: str, rows: Sequence[Comparison]) -> str:
    baseline, *others = report.restorers
    titles = ["corruption", baseline]
    for name in others:
        titles += [name, "difference [95 % CI]", "change", "recovery"]
    lines = {
        row.condition: [row.condition, number(measure, row.score)]
        for row in rows
        if row.restorer == baseline
    }
    for row in rows:
        if row.restorer != baseline:
            lines[row.condition] += comparison_cells(row)
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "\n".join(f"<tr>{''.join(map(cell, line))}</tr>" for line in lines.values())
    return (
        f'<h2>{escape(measure)}</h2><div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'
    )


def cell(text: str) -> str:
    kind = text.split(" ", 1)[0]
    mark = f' class="{kind}"' if kind in ("better", "worse") else ""
    return f"<td{mark}>{escape(text)}</td>"


def bars(rows: Sequence[Comparison], name: str) -> str:
    """How far each condition's score moves, from the baseline's to the restorer's."""
    shown = [row for row in rows if row.restorer == name]
    lines = "".join(bar(row, 22 * index + 10) for index, row in enumerate(shown))
    height = 22 * len(shown) + 20
    measure = rows[0].measure
    return (
        f"<h2>From none to {escape(name)}</h2><p>{escape(measure)} from 0 to 100 %: the dot is the "
        "recogniser alone, the bar leads to the restored score; green is better, red worse, grey "
        f'no significant change.</p><svg viewBox="0 0 600 {height}">{lines}</svg>'
    )


def bar(row: Comparison, y: int) -> str:
    before, after = (200 + 380 * share for share in (row.baseline, row.score))
    colour = {"better": "#0a7d3c", "worse": "#c22"}.get(row.change, "#888")
    return (
        f'<text x="190" y="{y + 5}" text-anchor="end">{escape(row.condition)}</text>'
        f'<line x1="200" x2="580" y1="{y}" y2="{y}" stroke="#ddd"/>'
        f'<line x1="{before:.1f}" x2="{after:.1f}" y1="{y}" y2="{y}" stroke="{colour}" '
        f'stroke-width="12"/><circle cx="{before:.1f}" cy="{y}" r="4"/>'
    )


def scatter(report: Report, rows: Sequence[Comparison]) -> str:
    """Mean over corruptions: the first measure against PSNR, a point for each restorer."""
    means = {
        (row.restorer, row.measure): row.score
        for row in rows
        if row.condition == "mean over corruptions"
    }
    measure = report.measures[0]
    points = {name: (means[name, "PSNR"], means[name, measure]) for name in report.restorers}
    x, y = (scale([point[axis] for point in points.values()]) for axis in (0, 1))
    marks = []
    for name, (psnr, score) in points.items():
        across, up = 70 + 500 * x(psnr), 330 - 300 * y(score)
        marks.append(
            f'<circle cx="{across:.1f}" cy="{up:.1f}" r="6" fill="#1857b6"/>'
            f'<text x="{across + 10:.1f}" y="{up + 4:.1f}">{escape(name)} '
            f"({psnr:.1f} dB, {score:.1%})</text>"
        )
    return (
        f"<h2>{escape(measure)} against PSNR</h2><p>Mean over corruptions. What looks more "
        "like the clean image need not be recognised better.</p>"
        '<svg viewBox="0 0 760 370"><path d="M70 10V340H740" fill="none" stroke="#888"/>'
        f'<text x="400" y="362">PSNR, dB</text><text x="8" y="24">{escape(measure)}</text>'
        f"{''.join(marks)}</svg>"
    )


def scale(values: Sequence[float]) -> Callable[[float], float]:
    """From the values' range, widened a little, to 0 to 1."""
    low, high = min(values), max(values)
    margin = 0.1 * (high - low) or 1
    return lambda value: (value - low + margin) / (high - low + 2 * margin)


def facts(report: Report) -> str:
    pairs = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>"
        for key, value in report.pipeline.items()
    )
    return f"<h2>Made with</h2><dl>{pairs}</dl>"


def problems(report: Report) -> list[str]:
    lines = [*report.skipped, *report.failed]
    if not lines:
        return []
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return [f"<h2>Left out or without an answer</h2><ul>{items}</ul>"]
