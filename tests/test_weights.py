"""Weights files: what was saved comes back; whatever is wrong with a file is said, never loaded."""

import hashlib
import json
import pickle
import resource
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from vrdir_plug import Restorer, RestorerConfig, WeightsError, weights
from vrdir_plug.weights import CONFIG, MODEL

SMALL = RestorerConfig("small", 8, ((8,),))
Damage = Callable[[Path], None]


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


def config_nested_deep(folder: Path) -> None:
    (folder / CONFIG).write_text("[" * 30_000)


def config_without_end(folder: Path) -> None:
    (folder / CONFIG).write_text('{"format": 2, "profile": "' + "a" * 100_000 + '"}')


def config_number_without_end(folder: Path) -> None:
    (folder / CONFIG).write_text('{"format": ' + "9" * 30_000 + "}")


def change_header(name: str, change: Callable[[dict[str, Any], bytes], bytes]) -> Damage:
    """Rewrites the file by hand: the header as JSON, then what `change` makes of the data."""

    def damage(folder: Path) -> None:
        data = (folder / MODEL).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        rest = change(header, data[8 + length :])
        text = json.dumps(header).encode()
        (folder / MODEL).write_bytes(len(text).to_bytes(8, "little") + text + rest)

    damage.__name__ = name
    return damage


FIRST = "decoder.0.weight"


def field(key: str, value: object) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(header: dict[str, Any], data: bytes) -> bytes:
        header[FIRST][key] = value
        return data

    return change


def long_header(header: dict[str, Any], data: bytes) -> bytes:
    header["__metadata__"]["padding"] = "a" * 2_000_000
    return data


def one_more_byte(header: dict[str, Any], data: bytes) -> bytes:
    return data + b"0"


def shared_bytes(header: dict[str, Any], data: bytes) -> bytes:
    """Two tensors on the same bytes, as a bomb of few bytes would have it."""
    twins = [k for k in header if k != FIRST and header[k].get("shape") == header[FIRST]["shape"]]
    other = twins[0] if twins else next(k for k in header if k not in (FIRST, "__metadata__"))
    header[other]["data_offsets"] = header[FIRST]["data_offsets"]
    return data


def as_double(tensors: dict[str, Tensor]) -> None:
    tensors[FIRST] = tensors[FIRST].double() * 1e300


def as_integers(tensors: dict[str, Tensor]) -> None:
    tensors[FIRST] = tensors[FIRST].long()


def as_complex(tensors: dict[str, Tensor]) -> None:
    tensors[FIRST] = tensors[FIRST].to(torch.complex64)


def infinite(tensors: dict[str, Tensor]) -> None:
    tensors[FIRST].fill_(float("inf"))


def header_of_words(folder: Path) -> None:
    (folder / MODEL).write_bytes((20).to_bytes(8, "little") + b"<html>not found</html>")


def html_page(folder: Path) -> None:
    (folder / MODEL).write_text("<!doctype html><title>Log in to the network</title>" * 50)


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
    config_nested_deep,
    config_without_end,
    config_number_without_end,
    *map(change_tensors, (as_double, as_integers, as_complex, infinite)),
    header_of_words,
    html_page,
    change_header("long_header", long_header),
    change_header("one_more_byte", one_more_byte),
    change_header("shared_bytes", shared_bytes),
    change_header("offsets_beyond_the_file", field("data_offsets", [0, 2**40])),
    change_header("offsets_backwards", field("data_offsets", [64, 0])),
    change_header("offsets_below_zero", field("data_offsets", [-8, 8])),
    change_header("shape_that_overflows", field("shape", [2**40, 2**40, 2**40])),
    change_header("shape_below_zero", field("shape", [-1, 8])),
    change_header("no_such_type", field("dtype", "F99")),
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_are_refused(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    with pytest.raises(WeightsError, match=str(folder.name)):
        Restorer.from_pretrained(folder)


PEAK = Path("/proc/self/clear_refs")


@pytest.mark.skipif(not PEAK.exists(), reason="only Linux lets a process forget its peak")
def test_a_config_that_asks_for_more_than_its_file_has_allocates_nothing(folder: Path) -> None:
    """Some 2 GB of weights, were they built to be compared."""
    change_config(channels=1024, units=[[1024] * 4] * 8)(folder)
    PEAK.write_text("5")  # forget the peak so far
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match="does not fit"):
        Restorer.from_pretrained(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    in_header=st.booleans(),
    length=st.sampled_from([0.1, 0.5, 0.99, 1.0, 1.0, 1.0]),
)
def test_fuzz_of_the_loader(
    folder: Path, changes: list[tuple[float, int]], in_header: bool, length: float
) -> None:
    """Whatever bytes come: a network with finite numbers, or a WeightsError."""
    data = bytearray((folder / MODEL).read_bytes())
    whole = int.from_bytes(data[:8], "little") + 8 if in_header else len(data)
    for place, value in changes:
        data[int(place * (whole - 1))] = value
    attacked = folder.parent / "attacked"
    attacked.mkdir(exist_ok=True)
    (attacked / CONFIG).write_bytes((folder / CONFIG).read_bytes())
    (attacked / MODEL).write_bytes(data[: int(length * len(data))])
    try:
        restorer = Restorer.from_pretrained(attacked)
    except WeightsError:
        return
    assert all(tensor.isfinite().all() for tensor in restorer.state_dict().values())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["format", "profile", "channels", "units", "branches", "grid", "skip"]
                    ),
                    inner,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {
                "channels": st.integers(-1, 3000) | st.floats() | st.none(),
                "units": st.lists(st.lists(st.integers(-1, 2000), max_size=6), max_size=9),
                "branches": st.integers(-1, 2000) | st.text(max_size=2),
                "grid": st.integers(-1, 300) | st.booleans(),
                "skip": st.booleans() | st.none(),
            }
        ).map(lambda v: json.dumps({**asdict(SMALL), "format": 2, **v}).encode()),
    )
)
def test_fuzz_of_the_config(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(WeightsError):
        Restorer.from_pretrained(folder)


def test_an_embedded_set_that_was_changed_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, finite and of the right sizes: only its hash tells."""
    folder.rename(folder.with_name("fast"))
    monkeypatch.setattr("vrdir_plug.weights.EMBEDDED", (folder.parent,))
    with pytest.raises(WeightsError, match="not the set that was recorded"):
        Restorer.from_pretrained("fast")


def test_the_recorded_hashes_are_those_of_the_files() -> None:
    (root,) = [path for path in weights.EMBEDDED if path.is_dir()]
    for name, recorded in weights.golden().items():
        for file, digest in recorded["sha256"].items():
            assert hashlib.sha256((root / name / file).read_bytes()).hexdigest() == digest
    assert sorted(weights.golden()) == sorted(path.name for path in root.iterdir())


def test_a_folder_has_no_revisions(folder: Path) -> None:
    with pytest.raises(ValueError, match="not on the Hub"):
        Restorer.from_pretrained(folder, revision="main")


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
