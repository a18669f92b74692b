"""Weights files: what was saved comes back; whatever is wrong with a file is said, never loaded."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vrdir_plug import Restorer, RestorerConfig, WeightsError
from vrdir_plug.weights import CONFIG, MODEL

SMALL = RestorerConfig("small", 8, ((8,),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    Restorer(SMALL).save_pretrained(tmp_path / "set")
    return tmp_path / "set"


def test_round_trip(folder: Path) -> None:
    torch.manual_seed(0)
    original, loaded = Restorer(SMALL), Restorer.from_pretrained(folder)
    assert loaded.config == SMALL and not loaded.training
    for name, tensor in original.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, MODEL]


def test_half_precision_files_load_into_full(folder: Path) -> None:
    Restorer.from_pretrained(folder).half().save_pretrained(folder)
    assert next(iter(load_file(folder / MODEL).values())).dtype == torch.float16
    assert Restorer.from_pretrained(folder).dtype == torch.float32


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """Copies: load_file maps the file, which the tests are about to overwrite."""
    return {name: tensor.clone() for name, tensor in load_file(folder / MODEL).items()}


def truncate(folder: Path) -> None:
    data = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(data[: len(data) // 2])


def pickled(folder: Path) -> None:
    torch.save(tensors_of(folder), folder / MODEL)


def bare_pickle(folder: Path) -> None:
    (folder / MODEL).write_bytes(pickle.dumps({"weights": [1, 2, 3]}))


def empty(folder: Path) -> None:
    (folder / MODEL).write_bytes(b"")


def huge_header(folder: Path) -> None:
    (folder / MODEL).write_bytes((2**62).to_bytes(8, "little") + b"{}")


def missing_model(folder: Path) -> None:
    (folder / MODEL).unlink()


def change_tensors(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = tensors_of(folder)
        change(tensors)
        config = (folder / CONFIG).read_text()
        save_file(tensors, folder / MODEL, metadata={"config": config})

    damage.__name__ = change.__name__
    return damage


def missing_key(tensors: dict[str, Tensor]) -> None:
    del tensors["decoder.0.weight"]


def extra_key(tensors: dict[str, Tensor]) -> None:
    tensors["decoder.9.weight"] = torch.zeros(1)


def other_shape(tensors: dict[str, Tensor]) -> None:
    tensors["decoder.0.weight"] = torch.zeros(1, 2)


def not_a_number(tensors: dict[str, Tensor]) -> None:
    tensors["decoder.0.weight"][0] = float("nan")


def change_config(**values: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        config.update(values)
        text = json.dumps(config)
        (folder / CONFIG).write_text(text)
        save_file(tensors_of(folder), folder / MODEL, metadata={"config": text})

    damage.__name__ = f"config_{values}"
    return damage


def config_of_another_file(folder: Path) -> None:
    """As a crash between the two files would leave them; every shape fits."""
    Restorer(replace(SMALL, grid=8)).save_pretrained(folder / "other")
    (folder / "other" / CONFIG).replace(folder / CONFIG)


def no_config(folder: Path) -> None:
    (folder / CONFIG).unlink()


def config_of_words(folder: Path) -> None:
    (folder / CONFIG).write_text("<html>404</html>")


def config_in_other_bytes(folder: Path) -> None:
    (folder / CONFIG).write_bytes(b"\xff\xfe\x00")


def config_is_a_list(folder: Path) -> None:
    (folder / CONFIG).write_text("[]")


def config_short_of_a_field(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    del config["channels"]
    (folder / CONFIG).write_text(json.dumps(config))


DAMAGES = (
    truncate,
    pickled,
    bare_pickle,
    empty,
    huge_header,
    missing_model,
    *map(change_tensors, (missing_key, extra_key, other_shape, not_a_number)),
    no_config,
    config_of_another_file,
    config_of_words,
    config_in_other_bytes,
    config_is_a_list,
    config_short_of_a_field,
    change_config(format=99),
    change_config(channels=16),
    change_config(channels="many"),
    change_config(channels=10**9),
    change_config(grid=10**9),
    change_config(grid=2.5),
    change_config(units=[[8] * 40]),
    change_config(units=3),
    change_config(published=True),
    change_config(branches=-1),
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_are_refused(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    with pytest.raises(WeightsError, match=str(folder.name)):
        Restorer.from_pretrained(folder)


def test_a_folder_that_is_not_there_names_what_is() -> None:
    with pytest.raises(FileNotFoundError, match="embedded sets"):
        Restorer.from_pretrained("no-such-set")


def test_an_interrupted_save_leaves_the_old_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / MODEL).read_bytes()

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("vrdir_plug.weights.save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        Restorer(replace(SMALL, grid=8)).save_pretrained(folder)
    assert (folder / MODEL).read_bytes() == before
    Restorer.from_pretrained(folder)


def test_the_default_is_never_a_folder_that_happens_to_be_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Restorer(SMALL).save_pretrained(tmp_path / "fast")
    monkeypatch.chdir(tmp_path)
    assert Restorer.from_pretrained("fast").config.profile == "fast"
    assert Restorer.from_pretrained("./fast").config == SMALL
