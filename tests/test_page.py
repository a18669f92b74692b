from html.parser import HTMLParser

import numpy as np

from vrdir_plug.evaluation import CLEAN, Condition, Report
from vrdir_plug.measures import Mean
from vrdir_plug.page import to_html

NOISE = Condition("gaussian_noise", 3)
VOID = {"meta", "circle", "line", "path"}


class Reader(HTMLParser):
    """Texts of the table's cells; fails where tags do not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["td"]:
            self.cells.append(data)


def report() -> Report:
    half = np.array([0.0, 1] * 20)
    top1 = {(CLEAN, "none"): half, (CLEAN, "<ours>"): half}
    top1 |= {(NOISE, "none"): np.zeros(40), (NOISE, "<ours>"): half}
    scores = {at: {"top-1": Mean(v), "PSNR": Mean(20 + 3 * v)} for at, v in top1.items()}
    return Report(
        {"size": 16},
        100,
        ["top-1", "PSNR"],
        ["none", "<ours>"],
        [CLEAN, NOISE],
        [f"{n}.png" for n in range(40)],
        ["a & b.png: truncated"],
        [],
        {at: {} for at in scores},
        scores,
    )


def test_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    page = to_html(report())
    reader = Reader(page)
    assert not reader.open and page == to_html(report())
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in reader.seen}
    assert "http" not in page and "url(" not in page
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        reader.seen
    )


def test_page_has_every_number_and_escapes_names() -> None:
    page = to_html(report())
    cells = Reader(page).cells
    start = cells.index("gaussian_noise 3")
    assert cells[start : start + 3] == ["gaussian_noise 3", "0.0%", "50.0%"]
    assert cells[start + 4].startswith("better (p ")
    assert "&lt;ours&gt;" in page and "<ours>" not in page and "a &amp; b.png" in page
    dots = [attrs for tag, attrs in Reader(page).seen if tag == "circle" and attrs["r"] == "6"]
    assert len(dots) == 2 and float(dots[0]["cx"] or 0) < float(dots[1]["cx"] or 0)
