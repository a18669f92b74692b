"""Folders of files: all restored, none lost, nothing overwritten, whatever single files do."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vrdir_plug import Restorer, restoring
from vrdir_plug.cli import main
from vrdir_plug.files import Photo, read_photo, write_photo
from vrdir_plug.restoring import restore_files


class Negative(nn.Module):
    """White minus the image, exact in 8 bits; remembers the batches it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
        return 1 - images


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as file:
        return np.asarray(file)


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images in two shapes and two folders, a text, and a damaged one."""
    for index, name in enumerate(("a.png", "b.png", "c.png", "sub/d.png", "sub/e.png")):
        photo(tmp_path / "in" / name, index, (12, 10) if index % 2 else (9, 7))
    (tmp_path / "in" / "broken.png").write_text("not an image")
    (tmp_path / "in" / "notes.txt").write_text("not meant to be one")
    return tmp_path / "in"


GOOD = ["a.png", "b.png", "c.png", "sub/d.png", "sub/e.png"]


def test_a_folder_into_a_folder(photos: Path, tmp_path: Path) -> None:
    network, failures = Negative(), []
    summary = restore_files(
        [photos], network, tmp_path / "out", on_failure=lambda *failure: failures.append(failure)
    )
    assert (summary.restored, summary.skipped, summary.failed) == (5, 0, 1)
    assert files_below(tmp_path / "out") == GOOD
    for name in GOOD:
        assert np.array_equal(pixels(tmp_path / "out" / name), 255 - pixels(photos / name))
    assert [path.name for path, _ in failures] == ["broken.png"]
    assert summary.failures[0]["reason"] == failures[0][1]
    # the two shapes were restored together
    assert sorted(network.batches) == [(2, 3, 10, 12), (3, 3, 7, 9)]


def test_beside_the_sources_and_again(photos: Path) -> None:
    first = restore_files([photos], Negative())
    beside = [name.replace(".png", ".restored.png") for name in GOOD]
    assert set(files_below(photos)) == {*GOOD, *beside, "broken.png", "notes.txt"}
    network = Negative()
    again = restore_files([photos], network)
    assert (first.restored, again.restored, again.skipped) == (5, 0, 5)
    assert not network.batches and len(files_below(photos)) == 12


def test_nothing_is_overwritten_unless_asked(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_text("precious")
    assert restore_files([photos], Negative(), out).skipped == 1
    assert (out / "a.png").read_text() == "precious"
    assert restore_files([photos], Negative(), out, overwrite=True).restored == 5
    assert np.array_equal(pixels(out / "a.png"), 255 - pixels(photos / "a.png"))


def test_goes_on_where_it_was_stopped(photos: Path, tmp_path: Path) -> None:
    class Stopped(Negative):
        def forward(self, images: Tensor) -> Tensor:
            if self.batches:
                raise KeyboardInterrupt
            return super().forward(images)

    with pytest.raises(KeyboardInterrupt):
        restore_files([photos], Stopped(), tmp_path / "out", batch_size=2)
    before = files_below(tmp_path / "out")
    assert set(before) < set(GOOD)  # whole files only, no parts
    summary = restore_files([photos], Negative(), tmp_path / "out")
    assert summary.restored + summary.skipped == 5 and summary.skipped == len(before)
    assert files_below(tmp_path / "out") == GOOD


def test_an_output_folder_inside_the_sources_is_not_a_source(photos: Path) -> None:
    restore_files([photos], Negative(), photos / "out")
    assert restore_files([photos], Negative(), photos / "out").skipped == 5
    assert files_below(photos / "out") == GOOD


def test_files_and_globs(photos: Path, tmp_path: Path) -> None:
    restore_files([photos / "sub" / "d.png"], Negative(), tmp_path / "one")
    assert files_below(tmp_path / "one") == ["d.png"]
    restore_files([f"{photos}/**/[abd].png"], Negative(), tmp_path / "some")
    assert files_below(tmp_path / "some") == ["a.png", "b.png", "sub/d.png"]


def test_several_folders_stay_apart(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        photo(tmp_path / folder / "same.png", ord(folder))
    restore_files([tmp_path / "x", tmp_path / "y"], Negative(), tmp_path / "out")
    assert files_below(tmp_path / "out") == ["x/same.png", "y/same.png"]


def test_outputs_never_fall_onto_sources_or_one_another(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="overwrite the images"):
        restore_files([photos], Negative(), photos, overwrite=True)
    with pytest.raises(ValueError, match="overwrite the images"):
        restore_files([photos / "a.png"], Negative(), photos, overwrite=True)
    other = photo(tmp_path / "other" / "a.png")
    with pytest.raises(ValueError, match=r"two sources are called 'a\.png'"):
        restore_files([photos / "a.png", other], Negative(), tmp_path / "out")


@pytest.mark.parametrize("source", ["absent", "absent/*.png", "absent.jpg"])
def test_what_is_not_there_is_said(tmp_path: Path, source: str) -> None:
    with pytest.raises((FileNotFoundError, ValueError), match="absent"):
        restore_files([tmp_path / source], Negative())


def test_a_batch_that_does_not_fit_is_restored_one_by_one(photos: Path, tmp_path: Path) -> None:
    class Small(Negative):
        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 1 or images.shape[2] == 7:
                raise RuntimeError("not enough memory: 9 bytes\nand a page of advice")
            return super().forward(images)

    summary = restore_files([photos], Small(), tmp_path / "out")
    assert (summary.restored, summary.failed) == (2, 4)
    assert {f["reason"] for f in summary.failures} > {"not enough memory: 9 bytes"}


def test_large_images_are_failures_that_say_so(photos: Path, tmp_path: Path) -> None:
    summary = restore_files([photos], Negative(), tmp_path / "out", most_megapixels=1e-4)
    assert summary.failed == 3 and "megapixels" in summary.failures[0]["reason"]


def test_batches_are_bounded_in_images_and_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(7):
        photo(tmp_path / "in" / f"{index}.png", index)
    network = Negative()
    restore_files([tmp_path / "in"], network, tmp_path / "out", batch_size=4)
    assert sorted(shape[0] for shape in network.batches) == [3, 4]
    monkeypatch.setattr(restoring, "BATCH_PIXELS", 2 * 120)
    network = Negative()
    restore_files([tmp_path / "in"], network, tmp_path / "small")
    assert max(shape[0] for shape in network.batches) == 2


def test_memory_does_not_grow_with_the_number_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file has a shape of its own: the worst case for batches by shape."""
    lock, alive, most = threading.Lock(), 0, 0

    def count(step: int) -> None:
        nonlocal alive, most
        with lock:
            alive, most = alive + step, max(most, alive + step)

    def counted_read(path: Path, limit: int) -> Photo:
        count(1)
        return read_photo(path, limit)

    def counted_write(photo: Photo, path: Path) -> None:
        write_photo(photo, path)
        count(-1)

    monkeypatch.setattr(restoring, "read_photo", counted_read)
    monkeypatch.setattr(restoring, "write_photo", counted_write)
    monkeypatch.setattr(restoring, "WAITING_PIXELS", 1000)
    for index in range(150):
        photo(tmp_path / "in" / f"{index}.png", index, (10 + index, 10))
    assert restore_files([tmp_path / "in"], Negative(), tmp_path / "out").restored == 150
    assert alive == 0 and most <= 12 + 4 * min(8, os.cpu_count() or 1)


def test_animations_longer_than_a_batch(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (12, 10), (40 * index, 0, 0)) for index in range(6)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=50)
    network = Negative()
    restore_files([tmp_path / "a.png"], network, tmp_path / "out", batch_size=4)
    assert [shape[0] for shape in network.batches] == [3, 3]
    with Image.open(tmp_path / "out" / "a.png") as file:
        file.seek(5)
        assert file.convert("RGB").getpixel((0, 0)) == (55, 255, 255)


def test_sixteen_bits_are_restored_in_sixteen_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (10, 12), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    restore_files([tmp_path / "a.png"], Negative(), tmp_path / "out")
    difference = pixels(tmp_path / "out" / "a.png").astype(int) - (65535 - values.astype(int))
    assert np.abs(difference).max() <= 1


# --- the command -------------------------------------------------------------------------------


def test_command_names_failures_and_counts(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "summary.json"
    command = ["restore", str(photos), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*command, "--json", str(report)]) == 1
    captured = capsys.readouterr()
    assert "5 restored, 0 there already, 1 failed" in captured.out
    assert f"vrdir: {photos / 'broken.png'}: cannot identify" in captured.err
    content = json.loads(report.read_text())
    assert content["restored"] == 5 and content["failures"][0]["file"].endswith("broken.png")
    (photos / "broken.png").unlink()
    assert main(command) == 0
    assert "0 restored, 5 there already, 0 failed" in capsys.readouterr().out


def test_command_uses_the_trained_network(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png", 0, (33, 47))
    assert main(["restore", str(source), "--device", "cpu"]) == 0
    image = torch.from_numpy(pixels(source).copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = Restorer.from_pretrained("fast")(image)[0].permute(1, 2, 0) * 255
    got = pixels(tmp_path / "a.restored.png")
    assert np.abs(got - expected.numpy()).max() <= 0.51


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["absent.png"], "no file or folder 'absent.png'"),
        ([".", "--restorer", "absent"], "no weights 'absent'"),
        ([".", "--device", "abacus"], "there is no device 'abacus'"),
        ([".", "--batch-size", "0"], "must be positive"),
        ([".", "--json", "no/where.json"], "no folder no"),
    ],
)
def test_wrong_use_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    photo(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert main(["restore", *options]) == 2
    assert sentence in capsys.readouterr().err and files_below(tmp_path) == ["a.png"]


def test_ctrl_c_is_a_sentence(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vrdir_plug.cli_restore.restore_files", stop)
    assert main(["restore", str(photos)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
