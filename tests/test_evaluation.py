import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vrdir_plug.classification import Classification
from vrdir_plug.evaluation import (
    CLEAN,
    Condition,
    Report,
    Restore,
    Sample,
    evaluate,
    single_threads,
)
from vrdir_plug.tables import to_json, to_markdown

NOISE, FOG = Condition("gaussian_noise", 3), Condition("fog", 2)
CONDITIONS = [NOISE, FOG]


def brightest_channel(images: Tensor) -> Tensor:
    """A recogniser of three classes: red, green, blue."""
    return images.mean(dim=(2, 3))


def none(images: Tensor) -> Tensor:
    return images


def redden(images: Tensor) -> Tensor:
    return images * torch.tensor([1.0, 0, 0]).view(3, 1, 1)


class Recorder:
    """A restorer that does nothing and remembers every batch it was shown."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.batches.append(images.clone())
        return images

    def pixels(self) -> Tensor:
        """Of each of the three conditions all images: (3, N, 3, 16, 16)."""
        return torch.cat(self.batches).unflatten(0, (3, -1))


def run(
    samples: Sequence[Sample],
    restorers: dict[str, Restore],
    *,
    batch_size: int = 2,
    seed: int = 0,
    recognise: Callable[[Tensor], Tensor] = brightest_channel,
    state: Path | None = None,
    fidelity: bool = False,
) -> Report:
    return evaluate(
        Classification(samples, recognise, 16),
        restorers,
        CONDITIONS,
        batch_size=batch_size,
        seed=seed,
        state=state,
        fidelity=fidelity,
    )


def right(report: Report, condition: Condition, name: str) -> list[float]:
    return report.scores[condition, name]["top-1"].values.tolist()  # type: ignore[attr-defined]


def test_top1_is_counted_image_by_image(samples: list[Sample]) -> None:
    report = run(samples, {"none": none, "red": redden})
    assert list(report.restorers) == ["none", "red"]
    assert list(report.conditions) == [CLEAN, NOISE, FOG]
    for condition in report.conditions:
        assert right(report, condition, "red") == [1, 0, 0, 1, 0]
        assert right(report, condition, "none") == [1] * 5
        assert report.cells[condition, "red"] == {"classes": [0] * 5}


def test_every_restorer_sees_the_same_pixels(samples: list[Sample]) -> None:
    first, second = Recorder(), Recorder()
    run(samples, {"first": first, "vandal": lambda images: images.zero_(), "second": second})
    assert first.pixels().shape == (3, len(samples), 3, 16, 16)
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
    assert torch.equal(part.pixels(), whole.pixels()[:, 3:])
    changed = (other.pixels() != whole.pixels()).flatten(2).any(2)  # (condition, image)
    assert changed.tolist() == [[False] * 5, [True] * 5, [True] * 5]


def test_images_are_made_on_threads_that_leave_torch_its_own() -> None:
    before = torch.get_num_threads()
    with single_threads(3) as pool:
        assert torch.get_num_threads() == before
        assert {pool.submit(torch.get_num_threads).result() for _ in range(6)} == {1}


def test_each_image_gets_noise_of_its_own(samples: list[Sample]) -> None:
    recorder = Recorder()
    run([samples[0], Sample("twin.png", samples[0].file, 0)], {"recorder": recorder})
    changed = (recorder.pixels()[:, 0] != recorder.pixels()[:, 1]).flatten(1).any(1)
    assert changed.tolist() == [False, True, True]


def test_fidelity_is_measured_on_what_the_recogniser_sees(samples: list[Sample]) -> None:
    report = run(samples, {"none": none, "black": torch.zeros_like}, fidelity=True)
    assert report.measures == ["top-1", "PSNR", "SSIM"]
    values = {key: found["PSNR"].value for key, found in report.scores.items()}
    assert values[CLEAN, "none"] == 100
    assert values[CLEAN, "none"] > values[NOISE, "none"] > values[NOISE, "black"]
    assert report.scores[CLEAN, "none"]["SSIM"].value == 1


# --- real photographs ----------------------------------------------------------------------------


@pytest.fixture
def night(tmp_path: Path, samples: list[Sample]) -> Condition:
    """The samples photographed again, a hundred levels darker; one of them as a JPEG."""
    folder = tmp_path / "night"
    folder.mkdir()
    for sample in samples:
        dark = Image.open(sample.file).point(lambda level: max(0, level - 100))
        dark.save(folder / sample.name)
    jpeg = folder / samples[1].name
    Image.open(jpeg).save(jpeg.with_suffix(".JPG"), quality=100, subsampling=0)
    jpeg.unlink()
    return Condition("night", 0, str(folder))


def test_real_photographs_are_taken_as_they_are(samples: list[Sample], night: Condition) -> None:
    recorder = Recorder()
    task = Classification(samples, brightest_channel, 16)
    report = evaluate(task, {"none": recorder, "red": redden}, [night, FOG], batch_size=2)
    taken = [task.load(Sample(file.name, file, 0)) for file in sorted(Path(night.folder).iterdir())]
    assert torch.equal(recorder.pixels()[1], torch.stack(taken))
    assert right(report, night, "none") == [1] * 5
    assert right(report, night, "red") == [1, 0, 0, 1, 0]
    # what is made is averaged, what was photographed stands alone
    rows = [line.split(" | ")[0] for line in to_markdown(report).splitlines()[2:7]]
    assert rows == ["| clean", "| night", "| fog 2", "| mean over seen", "| mean over corruptions"]


def test_an_image_without_its_photograph_is_left_out(
    samples: list[Sample], night: Condition
) -> None:
    folder = Path(night.folder)
    (folder / samples[0].name).unlink()
    (folder / samples[2].name).write_text("not an image")
    report = evaluate(Classification(samples, brightest_channel, 16), {"none": none}, [night])
    assert list(report.images) == ["1.png", "3.png", "4.png"]
    assert "No such file" in report.skipped[0] and str(folder / "0.png") in report.skipped[0]
    assert report.skipped[1].startswith("2.png: ")


def test_the_clean_image_is_no_photograph_of_itself(
    samples: list[Sample], night: Condition
) -> None:
    # as data.yaml names images that lie outside of its folder
    samples[1] = replace(samples[1], name=str(samples[1].file))
    report = evaluate(Classification(samples, brightest_channel, 16), {"none": none}, [night])
    assert len(report.images) == 4 and "no photograph but the clean one" in report.skipped[0]


def test_a_photograph_of_another_size_is_left_out(samples: list[Sample], night: Condition) -> None:
    class WholeImages(Classification):
        """As in detection: boxes would lie elsewhere."""

        one_size = False

        def load(self, sample: Sample) -> Tensor:
            return torch.from_numpy(np.array(Image.open(sample.file))).permute(2, 0, 1) / 255

    file = Path(night.folder, samples[0].name)
    Image.open(file).resize((20, 15)).save(file)
    report = evaluate(WholeImages(samples, brightest_channel), {"none": none}, [night])
    assert len(report.images) == 4
    assert "20x15 pixels" in report.skipped[0] and "40x30 where it is clean" in report.skipped[0]


def test_conditions_of_one_name_are_refused(samples: list[Sample], night: Condition) -> None:
    task = Classification(samples, brightest_channel, 16)
    for conditions in ([night, night], [Condition("clean", 0, night.folder)]):
        with pytest.raises(ValueError, match="two conditions have the name"):
            evaluate(task, {"none": none}, conditions)


# --- bad input -----------------------------------------------------------------------------------


def test_unreadable_images_are_left_out_and_listed(tmp_path: Path, samples: list[Sample]) -> None:
    jpeg = tmp_path / "whole.jpg"
    Image.open(samples[0].file).save(jpeg)
    (tmp_path / "truncated.jpg").write_bytes(jpeg.read_bytes()[:-100])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.full((9, 9), 1000, dtype=np.uint16)).save(tmp_path / "deep.png")
    names = ["truncated.jpg", "text.png", "empty.png", "deep.png"]
    broken = [Sample(name, tmp_path / name, 0) for name in names]
    report = run([*broken[:3], *samples, broken[3]], {"none": none})
    assert [line.split(":")[0] for line in report.skipped] == names
    assert list(report.images) == [sample.name for sample in samples]
    assert right(report, CLEAN, "none") == [1] * 5
    assert "5 images; 4 images could not be read" in to_markdown(report)
    with pytest.raises(ValueError, match="none of the 4 images can be read"):
        run(broken, {"none": none})


def test_an_image_that_the_model_fails_on_counts_as_not_recognised(samples: list[Sample]) -> None:
    def no_blue(images: Tensor) -> Tensor:
        logits = brightest_channel(images)
        if (logits.argmax(1) == 2).any():
            raise RuntimeError("blue")
        return logits

    report = run(samples, {"none": none}, recognise=no_blue, batch_size=5, fidelity=True)
    assert right(report, FOG, "none") == [1, 1, 0, 1, 1]
    assert report.failed[0] == "2.png (clean, none): RuntimeError: blue"
    assert len(report.failed) == 3
    assert "3 images had no answer" in to_markdown(report)


def test_a_model_that_fails_on_every_image_is_refused(samples: list[Sample]) -> None:
    def broken(images: Tensor) -> Tensor:
        return brightest_channel(images) / 0

    with pytest.raises(ValueError, match=r"every image: 0.png \(clean, none\): .* NaN or infinite"):
        run(samples, {"none": none}, recognise=broken)


def test_a_restorer_that_changes_the_size_is_refused(samples: list[Sample]) -> None:
    with pytest.raises(ValueError, match=r"returned \(2, 3, 8, 8\) for images \(2, 3, 16, 16\)"):
        run(samples, {"half": lambda images: images[..., ::2, ::2]})


# --- interrupted runs ----------------------------------------------------------------------------


class Interrupted:
    """A restorer that is stopped by Ctrl-C after some batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def __call__(self, images: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return images


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, samples: list[Sample]
) -> None:
    state = tmp_path / "run.state"
    expected = to_json(run(samples, {"none": none}))
    with pytest.raises(KeyboardInterrupt):
        run(samples, {"none": Interrupted(7)}, state=state)  # three batches a condition
    with state.open("a") as file:
        file.write('{"key": "cut o')
    recorder = Recorder()
    assert to_json(run(samples, {"none": recorder}, state=state)) == expected
    assert len(recorder.batches) == 3  # the last condition alone
    assert len(state.read_text().splitlines()) == 3


def test_the_state_of_another_run_is_refused(tmp_path: Path, samples: list[Sample]) -> None:
    state = tmp_path / "run.state"
    run(samples, {"none": none}, state=state)
    others: list[Callable[[], Report]] = [
        lambda: run(samples, {"none": none}, seed=1, state=state),
        lambda: run(samples[1:], {"none": none}, state=state),
        lambda: run([replace(samples[0], label=2)], {"none": none}, state=state),
        lambda: run(samples, {"none": none, "red": redden}, state=state),
    ]
    for other in others:
        with pytest.raises(ValueError, match="is of an interrupted run with other images"):
            other()


def test_json_holds_every_cell_and_the_same_bytes_each_time(samples: list[Sample]) -> None:
    restorers: dict[str, Restore] = {"none": none, "red": redden}
    text = to_json(run(samples, restorers, fidelity=True))
    assert text == to_json(run(samples, restorers, fidelity=True, batch_size=5))
    content = json.loads(text)
    assert content["images"] == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert content["pipeline"]["size"] == 16 and content["pipeline"]["seed"] == 0
    assert len(content["cells"]) == 6
    cell = content["cells"][3]
    assert (cell["corruption"], cell["severity"], cell["restorer"]) == ("gaussian_noise", 3, "red")
    assert (cell["n"], cell["top-1"], cell["images"]["classes"]) == (5, 0.4, [0] * 5)
    assert len(cell["images"]["PSNR"]) == 5
