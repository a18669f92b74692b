import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vrdir_plug.crops import crops_of
from vrdir_plug.detection import Detection, read_coco
from vrdir_plug.evaluation import CLEAN, AnswerError, Condition, Sample, evaluate
from vrdir_plug.measures import draws

IMAGES, CLASSES = 12, (3, 7, 9)


def scene(seed: int) -> tuple[dict[str, Any], list[list[list[float]]]]:
    """Random objects, and detections that hit, miss, double and invent."""
    rng = np.random.default_rng(seed)
    objects: list[dict[str, Any]] = []
    boxes = []
    for image in range(IMAGES):
        found = []
        for _ in range(int(rng.integers(0, 5))):
            x, y, w, h = rng.uniform([0, 0, 10, 10], [100, 100, 80, 80])
            category, crowd = int(rng.choice(CLASSES[:2])), int(rng.random() < 0.1)
            objects.append(
                {"id": len(objects) + 1, "image_id": 100 + image, "category_id": category}
                | {"bbox": [x, y, w, h], "area": w * h, "iscrowd": crowd}
            )
            for _ in range(int(rng.integers(0, 3))):
                shift = rng.normal(0, 4, 4)
                corners = np.array([x, y, x + w, y + h]) + shift
                found.append([*corners, round(float(rng.random()), 4), category])
        for _ in range(int(rng.integers(0, 3))):
            x, y = rng.uniform(0, 100, 2)
            found.append([x, y, x + 30, y + 30, round(float(rng.random()), 4), float(CLASSES[2])])
            found.append([x, y, x + 20, y + 20, round(float(rng.random()), 4), float(CLASSES[0])])
        boxes.append(found)
    content = {
        "images": [{"id": 100 + i, "file_name": f"{i}.png"} for i in range(IMAGES)],
        "annotations": objects,
        "categories": [{"id": c, "name": f"class {c}"} for c in CLASSES],
    }
    return content, boxes


def samples() -> list[Sample]:
    return [Sample(f"{i}.png", Path(f"{i}.png"), 100 + i) for i in range(IMAGES)]


def official(content: dict[str, Any], boxes: list[list[list[float]]], images: list[int]) -> Any:
    """pycocotools' own numbers: mAP and AP50."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        rows = [
            {"image_id": 100 + i, "category_id": int(b[5]), "score": b[4]}
            | {"bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
            for i, found in enumerate(boxes)
            for b in found
        ]
        evaluator = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluator.params.imgIds = images
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats[:2]


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_pycocotools(seed: int) -> None:
    content, boxes = scene(seed)
    task = Detection(samples(), content, lambda images: images)
    scores = task.scores(samples(), {"boxes": boxes}, {})
    expected = official(content, boxes, [100 + i for i in range(IMAGES)])
    assert [scores["mAP"].value, scores["AP50"].value] == pytest.approx(expected)


def test_a_draw_is_the_score_of_the_drawn_images() -> None:
    content, boxes = scene(1)
    task = Detection(samples(), content, lambda images: images)
    score = task.scores(samples(), {"boxes": boxes}, {})["mAP"]
    counts = next(draws(IMAGES, 4))
    for row, drawn in zip(counts, score.drawn(counts), strict=True):
        objects: list[dict[str, Any]] = []
        images, found = [], []
        for number, image in enumerate(np.repeat(np.arange(IMAGES), row.astype(int))):
            images.append({"id": 100 + number, "file_name": ""})
            found.append(boxes[image])
            for entry in content["annotations"]:
                if entry["image_id"] == 100 + image:
                    new = {"id": len(objects) + 1, "image_id": 100 + number}
                    objects.append({**entry, **new})
        again = {**content, "images": images, "annotations": objects}
        expected = official(again, found, [100 + i for i in range(len(images))])[0]
        # equal scores of one image drawn twice may be ordered otherwise
        assert drawn == pytest.approx(expected, abs=0.01)


def test_images_without_answer_or_detection_count_as_missed() -> None:
    content, boxes = scene(2)
    task = Detection(samples(), content, lambda images: images)
    nothing = task.scores(samples(), {"boxes": [None, *[[]] * (IMAGES - 1)]}, {})
    assert nothing["mAP"].value == 0
    part = task.scores(samples(), {"boxes": [None, *boxes[1:]]}, {})
    expected = official(content, [[], *boxes[1:]], [100 + i for i in range(IMAGES)])
    assert part["mAP"].value == pytest.approx(expected[0])


def test_absent_images_are_left_out_and_sizes_may_differ(tmp_path: Path) -> None:
    for number, size in enumerate([(30, 20), (25, 40)]):
        Image.new("RGB", size, "white").save(tmp_path / f"{number}.png")
    file = tmp_path / "labels.json"
    content = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(3)],
        "annotations": [
            {"image_id": n, "category_id": 1, "bbox": [2, 3, 10, 12]} for n in range(3)
        ],
        "categories": [{"id": 1, "name": "box"}],
    }
    file.write_text(json.dumps(content))
    found, annotations = read_coco(tmp_path, file)
    box = torch.tensor([[2.0, 3, 12, 15, 0.9, 1]])
    task = Detection(found, annotations, lambda images: box)
    report = evaluate(task, {"none": lambda images: images}, [Condition("fog", 1)])
    assert list(report.images) == ["0.png", "1.png"] and "2.png" in report.skipped[0]
    assert all(scores["mAP"].value == pytest.approx(1) for scores in report.scores.values())


def test_wrong_answers_and_files_are_refused(tmp_path: Path) -> None:
    task = Detection(samples(), {}, lambda images: images)
    with pytest.raises(AnswerError, match=r"returned \(1, 3, 4, 4\), not boxes \(N, 6\)"):
        task.recognise(torch.rand(1, 3, 4, 4))
    file = tmp_path / "labels.json"
    whole = '{"images": [{"id": 1, "file_name": "0.png"}], "annotations": [%s], "categories": []}'
    notes = ("", '{"image_id": 1, "category_id": 1}', '{"image_id": 1, "bbox": [1, 2, 3, 4]}')
    short = '{"image_id": 1, "category_id": 1, "bbox": [1, 2]}'
    for text in ("[]", "{", '{"images": [{}]}', *(whole % note for note in (*notes, short))):
        file.write_text(text)
        with pytest.raises(
            ValueError, match="is no COCO json with images, annotations, categories"
        ):
            read_coco(tmp_path, file)


def test_at_a_size_of_its_own_boxes_are_of_the_file(tmp_path: Path) -> None:
    """A detector of red: the box of what is red, whatever the size of the image it is shown."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[8:16, 24:40, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "0.png")
    shown = []

    def red(images: torch.Tensor) -> torch.Tensor:
        shown.append(images.shape)
        rows, columns = (images[0, 0] > 0.5).nonzero().mT
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.9, 3]
        return torch.tensor([box])

    content = {
        "images": [{"id": 5, "file_name": "0.png"}],
        "annotations": [{"image_id": 5, "category_id": 3, "bbox": [24, 8, 16, 8]}],
        "categories": [{"id": 3, "name": "red"}],
    }
    sample = Sample("0.png", tmp_path / "0.png", 5)
    for size, shape in ((None, (40, 80)), (160, (80, 160)), (40, (20, 40))):
        report = evaluate(Detection([sample], content, red, size), {"none": lambda x: x}, [])
        assert shown.pop()[2:] == shape
        (boxes,) = report.cells[CLEAN, "none"]["boxes"]
        np.testing.assert_allclose(boxes, [[24, 8, 40, 16, 0.9, 3]], atol=1e-4)
        assert report.scores[CLEAN, "none"]["mAP"].value == 1


def test_the_images_that_a_page_shows_are_those_whose_own_map_moves_most(tmp_path: Path) -> None:
    """A box in each of three images, found by its red; the last image has no object."""
    annotations = []
    for index in range(4):
        pixels = np.zeros((40, 80, 3), np.uint8)
        pixels[10:20, 10:20, 0] = 200 + 10 * index
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        note = {"image_id": index, "category_id": 3, "bbox": [10, 10, 10, 10]}
        annotations += [note] if index < 3 else []
    content = {"images": [], "annotations": annotations, "categories": [{"id": 3, "name": "red"}]}
    content["images"] = [{"id": index, "file_name": f"{index}.png"} for index in range(4)]

    def red(images: torch.Tensor) -> torch.Tensor:
        found = torch.tensor([[10.0, 10, 20, 20, 0.9, 3]])
        return found if 0.5 < images.amax() < 0.85 else found[:0]

    samples = [Sample(f"{index}.png", tmp_path / f"{index}.png", index) for index in range(4)]
    # alone it finds the first two boxes; behind the restorer the last two
    restorers = {"none": lambda x: x, "ours": lambda x: torch.where(x > 0.8, x - 0.1, 0)}
    task = Detection(samples, content, red)
    report = evaluate(task, restorers, [])
    crops = [(crop.image, crop.before, crop.after) for crop in crops_of(report, task, restorers)]
    assert crops == [("2.png", 0, 1), ("0.png", 1, 0)]
