"""A report as one HTML page: no script, nothing from elsewhere, readable on a phone."""

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape

from PIL import Image
from torch import Tensor

from .bench import Cost
from .crops import Crop
from .evaluation import Report, title
from .tables import Comparison, compare, comparison_cells, number

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: auto; max-width: 60rem; padding: 1rem; }
h1, h2 { line-height: 1.2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; white-space: nowrap; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
.better { color: #00622b; } .worse { color: #a30d0d; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: .85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figcaption { font-size: .85rem; }
.shots { display: grid; grid-template-columns: repeat(3, 1fr); gap: .25rem; max-width: 44rem; }
.shots img { width: 100%; }
svg { width: 100%; height: auto; max-width: 30rem; font: 13px system-ui, sans-serif; }
"""
WIDTH, HEIGHT = 380, 320  # of figures: a phone's, where a wider one has too small letters
HELP = """<p>The first column is the recogniser alone. Differences are in points, with their 95 %
interval (paired bootstrap over images). "Better" and "worse" mean p &lt; 0.05 in McNemar's exact
test or, where an image is not just right or wrong, that the interval leaves out 0.</p>"""


RULE = """<p>Left to right: clean, degraded, restored; the middle of each image. Not chosen by
taste: for each corruption it is the image whose {measure}, of it alone, {moves} most, the first in
their order where several do, and none where none does.</p>"""


def to_html(
    report: Report, costs: Mapping[str, Cost] | None = None, crops: Sequence[Crop] = ()
) -> str:
    """The tables, what came back of each corruption's loss, accuracy against PSNR where measured.

    Args:
        report: what was evaluated.
        costs: of one image, by restorer.
        crops: the images to show, as `crops_of` chooses them.
    """
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
    body += [cost(costs or {}), *pictures(report, crops)]
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
        f'no significant change.</p><svg viewBox="0 0 {WIDTH} {height}">{lines}</svg>'
    )


def bar(row: Comparison, y: int) -> str:
    before, after = (165 + 205 * share for share in (row.baseline, row.score))
    colour = {"better": "#0a7d3c", "worse": "#c22"}.get(row.change, "#888")
    return (
        f"{text(155, y + 5, row.condition, 'end')}"
        f'<line x1="165" x2="370" y1="{y}" y2="{y}" stroke="#ddd"/>'
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
    return (
        f"<h2>{escape(measure)} against PSNR</h2><p>Mean over corruptions. What looks more "
        "like the clean image need not be recognised better.</p>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{marks(points, measure)}</svg>'
    )


LEFT, BELOW, ACROSS, UP = 60, 270, 310, 260  # the scatter's origin, and its axes' lengths


def marks(points: Mapping[str, tuple[float, float]], measure: str) -> str:
    """The inside of an SVG of WIDTH x HEIGHT: (PSNR in dB, share) by name, axes and labels."""
    psnrs, scores = zip(*points.values(), strict=True)
    x, y = scale(psnrs), scale(scores)
    placed = {name: (LEFT + ACROSS * x(a), BELOW - UP * y(b)) for name, (a, b) in points.items()}
    middle = BELOW - UP // 2
    return "".join(
        [
            f'<path d="M{LEFT} {BELOW - UP}V{BELOW}H{LEFT + ACROSS}" fill="none" stroke="#888"/>',
            text(LEFT + ACROSS / 2, BELOW + 40, "PSNR, dB", "middle"),
            text(14, middle, measure, "middle", f' transform="rotate(-90 14 {middle})"'),
            *(text(LEFT + ACROSS * x(v), BELOW + 18, f"{v:.1f}", "middle") for v in ends(psnrs)),
            *(text(LEFT - 6, BELOW - UP * y(v) + 4, f"{v:.1%}", "end") for v in ends(scores)),
            *dots(placed),
        ]
    )


def dots(placed: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """A labelled dot for each name, at (x, y)."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in placed.values()]
    for name, (x, y) in placed.items():
        box = free_place(x, y, 7.5 * len(name), taken)
        taken.append(box)
        near_x, near_y = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
        yield f'<path d="M{x:.1f} {y:.1f}L{near_x:.1f} {near_y:.1f}" stroke="#888"/>'
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="#1857b6"/>'
        yield text((box[0] + box[2]) / 2, box[3] - 3, name, "middle")


Box = tuple[float, float, float, float]  # left, top, right, bottom


def free_place(x: float, y: float, width: float, taken: Sequence[Box]) -> Box:
    """Of a label of a dot at (x, y): beside, above or below it, the nearest that nothing covers."""
    sides = (x + 9, x - 9 - width, x - width / 2)
    boxes = [
        (left, y + up - 7, left + width, y + up + 7)
        for up in sorted(range(-150, 151, 5), key=abs)
        for left in sides
    ]
    free = (box for box in boxes if within(box) and not any(meet(box, other) for other in taken))
    return next(free, boxes[0])


def within(box: Box) -> bool:
    return box[0] > LEFT and box[1] >= 0 and box[2] <= WIDTH and box[3] < BELOW


def meet(one: Box, other: Box) -> bool:
    return all(one[i] < other[i + 2] and other[i] < one[i + 2] for i in (0, 1))


def text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def ends(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted({min(values), max(values)}))


def scale(values: Sequence[float]) -> Callable[[float], float]:
    """From the values' range, widened a little, to 0 to 1."""
    low, high = min(values), max(values)
    margin = 0.1 * (high - low) or 1
    return lambda value: (value - low + margin) / (high - low + 2 * margin)


def cost(costs: Mapping[str, Cost]) -> str:
    """Milliseconds beside the recogniser's."""
    if not costs:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{found.ratio:.0%} [{found.low:.0%}, {found.high:.0%}]</td>"
        f"<td>{found.restorer:.1f}</td><td>{found.recogniser:.1f}</td></tr>"
        for name, found in costs.items()
    )
    return (
        "<h2>Cost</h2><p>Milliseconds for one image, on the machine that made this page, the two "
        "run in turn; the ratio [with its quartiles] is what can be compared.</p>"
        '<div class="wide"><table><tr><th></th><th>restorer / recogniser</th>'
        f"<th>restorer, ms</th><th>recogniser, ms</th></tr>{rows}</table></div>"
    )


def pictures(report: Report, crops: Sequence[Crop]) -> list[str]:
    """What each restorer brings back, and what it spoils."""
    parts = []
    for name in dict.fromkeys(crop.restorer for crop in crops):
        mine = [crop for crop in crops if crop.restorer == name]
        rises = [crop for crop in mine if crop.after > crop.before]
        falls = [crop for crop in mine if crop.after < crop.before]
        parts += shots(report, f"What {name} brings back", "rises", rises)
        parts += shots(report, f"What {name} spoils", "falls", falls)
    return parts


def shots(report: Report, heading: str, moves: str, crops: Sequence[Crop]) -> list[str]:
    if not crops:
        return []
    rule = RULE.format(measure=escape(report.measures[0]), moves=moves)
    return [f"<h2>{escape(heading)}</h2>{rule}", *(shot(report, crop) for crop in crops)]


def shot(report: Report, crop: Crop) -> str:
    images = (crop.clean, crop.degraded, crop.restored)
    kinds = ("clean", title(crop.condition), f"restored by {crop.restorer}")
    tags = "".join(
        f'<img alt="{escape(kind)}" src="{data_uri(image)}">'
        for kind, image in zip(kinds, images, strict=True)
    )
    change = in_words(report.measures[0], crop.before, crop.after)
    words = [title(crop.condition), crop.image, change]
    return (
        f'<figure><div class="shots">{tags}</div>'
        f"<figcaption>{escape(': '.join(words))}</figcaption></figure>"
    )


def in_words(measure: str, before: float, after: float) -> str:
    if {before, after} == {0, 1}:
        return "wrong alone, right behind it" if after else "right alone, wrong behind it"
    return f"{measure} from {number(measure, before)} to {number(measure, after)}"


def data_uri(image: Tensor) -> str:
    """(3, H, W) in [0, 1] as a JPEG within the page."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


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
