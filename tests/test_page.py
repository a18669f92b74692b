import base64
import io
import runpy
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vrdir_plug.bench import Cost
from vrdir_plug.classification import Classification
from vrdir_plug.crops import SIDE, crops_of, middle
from vrdir_plug.evaluation import CLEAN, Condition, Report, Restore, Sample, evaluate
from vrdir_plug.measures import Mean
from vrdir_plug.page import marks, to_html
from vrdir_plug.tables import to_json

NOISE = Condition("gaussian_noise", 3)
VOID = {"meta", "img", "circle", "line", "path"}


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


def test_page_says_what_it_costs() -> None:
    page = to_html(report(), {"<ours>": Cost(0.25, 0.2, 0.3, 5.04, 20.16)})
    cells = Reader(page).cells
    start = cells.index("25% [20%, 30%]")
    assert cells[start - 1 : start + 3] == ["<ours>", "25% [20%, 30%]", "5.0", "20.2"]


def test_labels_cover_neither_each_other_nor_a_dot_and_stay_within() -> None:
    names = ["none", "fast", "clahe", "unsharp", "nlm", "tv", "dark-channel"]
    psnrs, scores = [12.55, 13.3, 14.9, 12.6, 12.5, 12.2, 19.6], [805, 808, 822, 785, 748, 350, 835]
    points = {n: (a, b / 1000) for n, a, b in zip(names, psnrs, scores, strict=True)}
    seen = Reader(marks(points, "top-1")).seen
    texts = [attrs for tag, attrs in seen if tag == "text"][6:]
    boxes = [(float(a["cx"] or 0), float(a["cy"] or 0), 4.0, 4.0) for t, a in seen if t == "circle"]
    for name, attrs in zip(names, texts, strict=True):
        boxes.append((float(attrs["x"] or 0), float(attrs["y"] or 0) - 4, 3.5 * len(name), 6.0))
    for index, (x, y, wide, high) in enumerate(boxes):
        assert x - wide >= 0 and x + wide <= 380 and y - high >= 0 and y + high <= 270
        for other_x, other_y, other_wide, other_high in boxes[:index]:
            apart = abs(x - other_x) >= wide + other_wide or abs(y - other_y) >= high + other_high
            assert apart or index < len(names)  # dots may cover each other


def test_the_tool_draws_the_scatter_of_a_json_file(tmp_path: Path) -> None:
    draw = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "draw_scatter.py"))["main"]
    found = replace(report(), pipeline={"fidelity": "measured"})
    (tmp_path / "run.json").write_text(to_json(found))
    draw(str(tmp_path / "run.json"), str(tmp_path / "scatter.svg"))
    texts = [str(e.text) for e in ElementTree.parse(tmp_path / "scatter.svg").iter() if e.text]
    assert {"none", "<ours>", "20.0", "21.5", "0.0%", "50.0%", "top-1"} <= set(texts)
    (tmp_path / "run.json").write_text(to_json(replace(found, pipeline={"fidelity": "no"})))
    with pytest.raises(SystemExit, match="evaluate with --fidelity"):
        draw(str(tmp_path / "run.json"), str(tmp_path / "scatter.svg"))


# --- pictures ------------------------------------------------------------------------------------

RESTORERS: Mapping[str, Restore] = {"none": lambda images: images, "<ours>": lambda images: images}


def colours(tmp_path: Path) -> Classification:
    """Red, green, red, green; the class is that of the brightest channel."""
    for index in range(4):
        pixels = np.full((20, 20, 3), 90, np.uint8)
        pixels[..., index % 2] = 160
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    samples = [Sample(f"{n}.png", tmp_path / f"{n}.png", n % 2) for n in range(4)]
    return Classification(samples, lambda images: images.mean((2, 3)), 16)


def green(images: Tensor) -> Tensor:
    return images * torch.tensor([0, 1.0, 0]).view(3, 1, 1)


def red(images: Tensor) -> Tensor:
    return images * torch.tensor([1.0, 0, 0]).view(3, 1, 1)


def test_pictures_are_the_first_that_rise_and_fall(tmp_path: Path) -> None:
    task = colours(tmp_path)
    restorers: Mapping[str, Restore] = {"red": red, "<green>": green}
    found = list(crops_of(evaluate(task, restorers, [NOISE]), task, restorers))
    changes = [(crop.condition, crop.image, crop.before, crop.after) for crop in found]
    expected = [(c, f"{n}.png", *v) for c in (CLEAN, NOISE) for n, v in ((1, (0, 1)), (0, (1, 0)))]
    assert changes == expected
    for crop in found:
        torch.testing.assert_close(crop.restored, green(crop.degraded))
        assert torch.equal(crop.clean, crop.degraded) == (crop.condition == CLEAN)


def test_nothing_is_shown_where_nothing_changes(tmp_path: Path) -> None:
    task = colours(tmp_path)
    assert not list(crops_of(evaluate(task, RESTORERS, [NOISE]), task, RESTORERS))


def test_pictures_are_within_the_page_with_their_rule(tmp_path: Path) -> None:
    task = colours(tmp_path)
    restorers: Mapping[str, Restore] = {"none": RESTORERS["none"], "<green>": green}
    report = evaluate(task, restorers, [NOISE])
    page = to_html(report, None, list(crops_of(report, task, restorers)))
    reader = Reader(page)
    assert not reader.open
    sources = [str(attrs["src"]) for tag, attrs in reader.seen if tag == "img"]
    assert len(sources) == 2 * 3 and "whose top-1, of it alone, falls most" in page
    assert "0.png: right alone, wrong behind it</figcaption>" in page
    assert "rises most" not in page and "What &lt;green&gt; spoils" in page
    kind, content = sources[2].split(",")
    assert kind == "data:image/jpeg;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), dtype=float)
    assert shown.shape == (16, 16, 3) and shown[..., 1].mean() > shown[..., 0].mean() + 50


def test_large_images_are_shown_by_their_middle() -> None:
    image = torch.rand(3, 300, 100)
    assert torch.equal(middle(image), image[:, 38 : 38 + SIDE])
