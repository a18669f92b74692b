import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from vrdir_plug.evaluation import (
    CLEAN,
    Condition,
    Recogniser,
    Report,
    Sample,
    compare,
    evaluate,
    load_image,
    paired_interval,
    read_samples,
    to_json,
    to_markdown,
)

NOISE, FOG = Condition("gaussian_noise", 3), Condition("fog", 2)
HEADER = "path,split,label\n"


def brightest_channel(images: Tensor) -> Tensor:
    """A recogniser of three classes: red, green, blue."""
    return images.mean(dim=(2, 3))


def always_red(images: Tensor) -> Tensor:
    return torch.tensor([1.0, 0, 0]).expand(len(images), 3)


class Recorder:
    """Remembers every batch it was shown."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.batches.append(images.clone())
        return always_red(images)

    def pixels(self) -> Tensor:
        """Of each image the three conditions: (N, 3, 3, 16, 16)."""
        conditions = (self.batches[start::3] for start in range(3))
        return torch.stack([torch.cat(batches) for batches in conditions], dim=1)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Five images, red, green, blue, red, green, with their labels."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(5):
        pixels = rng.integers(0, 120, (30, 40, 3), dtype=np.uint8)
        pixels[..., index % 3] += 100
        file = tmp_path / f"{index}.png"
        Image.fromarray(pixels).save(file)
        made.append(Sample(file.name, file, index % 3))
    return made


def run(
    samples: list[Sample], contestants: dict[str, Recogniser], batch_size: int = 2, seed: int = 0
) -> Report:
    return evaluate(samples, contestants, [NOISE, FOG], size=16, batch_size=batch_size, seed=seed)


# --- labels and images ---------------------------------------------------------------------------


def test_labels_are_read_for_the_wanted_splits(tmp_path: Path, samples: list[Sample]) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"\ufeff{HEADER}0.png,dev,0\n1.png,test,1\n2.png,train,\n4.png,dev,7\n")
    first, last = read_samples(tmp_path, table, ["dev"])
    assert first == Sample("0.png", tmp_path / "0.png", 0)
    assert last == Sample("4.png", tmp_path / "4.png", 7)
    assert [sample.label for sample in read_samples(tmp_path, table, ["dev", "test"])] == [0, 1, 7]


@pytest.mark.parametrize(
    ("text", "splits", "message"),
    [
        ("file,label\n0.png,0\n", [], "no column 'path'"),
        ("path,class\n0.png,0\n", [], "no column 'label'"),
        ("path,label\n0.png,0\n", ["dev"], "no column 'split'"),
        (HEADER + "0.png,dev,0\n", ["test"], r"no split 'test', only \['dev'\]"),
        (HEADER + "0.png,dev,0\n1.png,dev,\n", [], "line 3: the label of '1.png' is ''"),
        (HEADER + "0.png,dev,cat\n", [], "line 2: the label of '0.png' is 'cat'"),
        (HEADER + "0.png,dev,-1\n", [], "line 2: the label of '0.png' is '-1'"),
        (HEADER + "0.png\n", [], "line 2: the label of '0.png' is ''"),
        (HEADER + "absent.png,dev,0\n", [], "line 2: there is no file 'absent.png'"),
        (HEADER, [], "lists no images"),
        ("", [], "no column 'path'"),
    ],
)
def test_wrong_labels_are_refused(
    tmp_path: Path, samples: list[Sample], text: str, splits: list[str], message: str
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_samples(tmp_path, table, splits)


@pytest.mark.parametrize("size", [(50, 31), (31, 50), (33, 33), (10, 7), (299, 200)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_images_are_resized_and_cropped_as_torchvision_does(
    tmp_path: Path, size: tuple[int, int], mode: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    file = tmp_path / "image.png"
    Image.fromarray(pixels).convert(mode).save(file)
    oracle = transforms.Compose(
        [
            transforms.Resize(24, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(24),
            transforms.ToTensor(),
        ]
    )
    expected = oracle(Image.open(file).convert("RGB"))
    torch.testing.assert_close(load_image(file, 24), expected, rtol=0, atol=0)


def test_unreadable_images_are_left_out_and_listed(tmp_path: Path, samples: list[Sample]) -> None:
    jpeg = tmp_path / "whole.jpg"
    Image.open(samples[0].file).save(jpeg)
    (tmp_path / "truncated.jpg").write_bytes(jpeg.read_bytes()[:-100])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.full((9, 9), 1000, dtype=np.uint16)).save(tmp_path / "deep.png")
    names = ["truncated.jpg", "text.png", "empty.png", "deep.png"]
    broken = [Sample(name, tmp_path / name, 0) for name in names]
    report = run([*broken[:3], *samples, broken[3]], {"colour": brightest_channel})
    assert [line.split(":")[0] for line in report.skipped] == names
    assert list(report.images) == [sample.name for sample in samples]
    np.testing.assert_array_equal(report.correct[CLEAN, "colour"], np.ones(5))
    assert "5 images; 4 unreadable images left out" in to_markdown(report)
    with pytest.raises(ValueError, match="none of the 4 images can be read"):
        run(broken, {"colour": brightest_channel})


# --- the evaluation ------------------------------------------------------------------------------


def test_top1_is_counted_image_by_image(samples: list[Sample]) -> None:
    report = run(samples, {"red": always_red, "colour": brightest_channel})
    assert list(report.contestants) == ["red", "colour"]
    assert list(report.conditions) == [CLEAN, NOISE, FOG]
    for condition in report.conditions:
        np.testing.assert_array_equal(report.correct[condition, "red"], [1, 0, 0, 1, 0])
        np.testing.assert_array_equal(report.correct[condition, "colour"], np.ones(5))


def test_every_contestant_sees_the_same_pixels(samples: list[Sample]) -> None:
    def vandal(images: Tensor) -> Tensor:
        return always_red(images.zero_())

    first, second = Recorder(), Recorder()
    run(samples, {"first": first, "vandal": vandal, "second": second})
    assert first.pixels().shape == (len(samples), 3, 3, 16, 16)
    assert torch.equal(first.pixels(), second.pixels())


def test_pixels_depend_on_neither_batch_size_nor_selection_but_on_the_seed(
    samples: list[Sample],
) -> None:
    whole, single, part, other = (Recorder() for _ in range(4))
    run(samples, {"recorder": whole}, batch_size=5)
    run(samples, {"recorder": single}, batch_size=1)
    run(samples[3:], {"recorder": part}, batch_size=2)
    run(samples, {"recorder": other}, seed=1)
    assert torch.equal(single.pixels(), whole.pixels())
    assert torch.equal(part.pixels(), whole.pixels()[3:])
    changed = (other.pixels() != whole.pixels()).flatten(2).any(2)  # (image, condition)
    assert changed.tolist() == [[False, True, True]] * 5


def test_each_image_gets_noise_of_its_own(samples: list[Sample]) -> None:
    recorder = Recorder()
    run([samples[0], Sample("twin.png", samples[0].file, 0)], {"recorder": recorder})
    changed = (recorder.pixels()[0] != recorder.pixels()[1]).flatten(1).any(1)
    assert changed.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("recognise", "message"),
    [
        (lambda images: images, r"liar returned \(2, 3, 16, 16\) for 2 images"),
        (lambda images: images.mean(dim=(0, 2, 3)), r"liar returned \(3,\) for 2 images"),
        (lambda images: {"logits": images}, "liar returned dict for 2 images"),
        (lambda images: brightest_channel(images) / 0, "liar returned logits that are NaN or inf"),
        (lambda images: always_red(images)[:, :1], "label 1 is beyond the 1 classes of liar"),
    ],
    ids=["images", "no batch", "dictionary", "NaN", "too few classes"],
)
def test_recognisers_that_return_anything_else_are_refused(
    samples: list[Sample], recognise: Recogniser, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(samples, {"liar": recognise})


# --- what comes out ------------------------------------------------------------------------------


def reported(**scores: list[list[int]]) -> Report:
    """A report from each contestant's scores under CLEAN, NOISE and FOG."""
    conditions = [CLEAN, NOISE, FOG]
    correct = {
        (condition, name): np.array(row, dtype=np.float64)
        for name, rows in scores.items()
        for condition, row in zip(conditions, rows, strict=True)
    }
    images = [f"{index}.png" for index in range(len(correct[CLEAN, next(iter(scores))]))]
    return Report({"size": 16}, list(scores), conditions, images, [], correct)


TWO = reported(
    plain=[[1, 1, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0]], restored=[[1, 1, 0, 0], [1, 0, 1, 0], [1] * 4]
)


def test_comparison_by_hand() -> None:
    clean, noise, fog, mean = compare(TWO, "restored")
    assert (clean.condition, clean.baseline, clean.top1) == ("clean", 0.75, 0.5)
    assert clean.recovery is None
    assert (noise.condition, noise.baseline, noise.top1) == ("gaussian_noise 3", 0.25, 0.5)
    assert noise.recovery == pytest.approx((0.5 - 0.25) / (0.75 - 0.25))
    assert (fog.baseline, fog.top1, fog.recovery) == (0.75, 1.0, None)
    assert (mean.condition, mean.baseline, mean.top1) == ("mean over corruptions", 0.5, 0.75)
    assert mean.recovery == pytest.approx((0.75 - 0.5) / (0.75 - 0.5))


def test_mean_resamples_images_not_cells() -> None:
    *_, mean = compare(TWO, "restored")
    # Per image, the mean over noise and fog changes by 1/2, 0, 0, 1/2.
    assert mean.interval == paired_interval(np.array([0.5, 0, 0, 0.5]))


@pytest.mark.parametrize("count", [30, 400])
def test_interval_is_scipys_paired_percentile_bootstrap(count: int) -> None:
    rng = np.random.default_rng(1)
    before, after = rng.random(count) < 0.5, rng.random(count) < 0.6
    difference = after.astype(float) - before
    expected = scipy.stats.bootstrap(
        (after.astype(float), before.astype(float)),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    np.testing.assert_allclose(paired_interval(difference), expected, atol=1.01 / count + 0.003)
    assert paired_interval(difference) == paired_interval(difference)


def test_interval_of_no_change_is_zero() -> None:
    assert paired_interval(np.zeros(10)) == (0, 0)


def test_markdown() -> None:
    lines = to_markdown(TWO).splitlines()
    assert lines[0] == (
        "| corruption | plain top-1 | restored top-1 | difference [95 % CI] | recovery |"
    )
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: |"
    assert lines[2].startswith("| clean | 75.0% | 50.0% | -25.0 [-75.0, +0.0] |")
    assert lines[3].startswith("| gaussian_noise 3 | 25.0% | 50.0% | +25.0 [+0.0, +75.0] | 50% |")
    assert lines[5].startswith("| mean over corruptions | 50.0% | 75.0% | +25.0 [")
    assert lines[-1] == "4 images; size 16"


def test_markdown_of_the_baseline_alone() -> None:
    lines = to_markdown(reported(plain=[[1, 1], [0, 1], [0, 0]])).splitlines()
    assert lines[0] == "| corruption | plain top-1 |"
    assert lines[5] == "| mean over corruptions | 25.0% |"


def test_json_holds_every_cell_and_the_same_bytes_each_time(samples: list[Sample]) -> None:
    contestants: dict[str, Recogniser] = {"red": always_red, "colour": brightest_channel}
    text = to_json(run(samples, contestants))
    assert text == to_json(run(samples, contestants, batch_size=5))
    content = json.loads(text)
    assert content["images"] == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert content["pipeline"]["size"] == 16 and content["pipeline"]["seed"] == 0
    assert len(content["cells"]) == 6
    assert content["cells"][2] == {
        "corruption": "gaussian_noise",
        "severity": 3,
        "contestant": "red",
        "n": 5,
        "top1": 0.4,
        "correct": "10010",
    }
