"""Weights from the Hub, by its own client from a server on loopback, with all that goes wrong."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from hub_server import COMMIT, Hub, serving
from huggingface_hub import constants

from vrdir_plug import Restorer, RestorerConfig, WeightsError, weights
from vrdir_plug.cli import main

SMALL = RestorerConfig("small", 8, ((8,),))
NAME = "birds/owl"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    torch.manual_seed(0)
    Restorer(SMALL).save_pretrained(tmp_path / "set")
    return {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}


def point_client(monkeypatch: pytest.MonkeyPatch, cache: Path, url: str) -> None:
    """The client reads its environment when it is imported, which is long past."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


@pytest.fixture
def hub(tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as hub:
        hub.repositories[NAME] = files
        point_client(monkeypatch, tmp_path / "cache", hub.url)
        # it goes on from the last whole chunk, of 10 MB
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        # its pauses between tries
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        yield hub
        huggingface_hub.close_session()


def blobs(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.parent.name == "blobs"]


def test_download_then_cache(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = Restorer(SMALL).state_dict()
    loaded = Restorer.from_pretrained(NAME)
    assert loaded.config == SMALL
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name])
    assert hub.asked
    hub.asked.clear()
    Restorer.from_pretrained(NAME)
    Restorer.from_pretrained(NAME, revision="main")
    Restorer.from_pretrained(NAME, revision=COMMIT)
    assert not hub.asked


def test_the_cache_serves_without_a_network(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Restorer.from_pretrained(NAME)
    point_client(monkeypatch, tmp_path / "cache", closed_port())
    assert Restorer.from_pretrained(NAME).config == SMALL


def test_a_branch_stays_where_it_was_until_download_is_asked(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Restorer.from_pretrained(NAME)
    Restorer(RestorerConfig("newer", 8, ((8,),))).save_pretrained(tmp_path / "newer")
    hub.repositories[NAME] = {p.name: p.read_bytes() for p in (tmp_path / "newer").iterdir()}
    newer = "9" * 40
    hub.revisions |= {"main": newer, newer: newer}
    assert Restorer.from_pretrained(NAME).config.profile == "small"
    assert main(["download", NAME]) == 0
    assert f'Restorer.from_pretrained("{NAME}", revision="{newer}")' in capsys.readouterr().out
    assert Restorer.from_pretrained(NAME).config.profile == "newer"
    assert Restorer.from_pretrained(NAME, revision=COMMIT).config.profile == "small"


def test_a_broken_transfer_is_resumed(hub: Hub) -> None:
    hub.faults.add("broken once")
    assert Restorer.from_pretrained(NAME).config == SMALL
    assert any(part for _, _, part in hub.asked)


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_no_network_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_client(monkeypatch, tmp_path / "cache", closed_port())
    start = time.monotonic()
    with pytest.raises(ConnectionError, match="embedded sets need no network"):
        Restorer.from_pretrained(NAME)
    assert time.monotonic() - start < 3
    assert not (tmp_path / "cache").exists()


def test_a_network_that_swallows_everything_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vrdir_plug.hub.TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        point_client(monkeypatch, tmp_path / "cache", f"http://127.0.0.1:{port}")
        start = time.monotonic()
        with pytest.raises(ConnectionError, match="could not be downloaded"):
            Restorer.from_pretrained(NAME)
        assert time.monotonic() - start < 3
        huggingface_hub.close_session()


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("429", ConnectionError, "429"),
        ("login page", ConnectionError, "not the Hub's"),
        ("truncated", ConnectionError, "could not be downloaded"),
        ("wrong hash", WeightsError, "expected ffff"),
        ("html", WeightsError, "came with the hash"),
        ("huge", WeightsError, "bytes, expected"),
        ("path for a hash", ConnectionError, "not the Hub's"),
        ("path for a commit", ConnectionError, "not the Hub's"),
    ],
)
def test_faults_are_said_and_leave_nothing_behind(
    hub: Hub, tmp_path: Path, fault: str, error: type[Exception], words: str
) -> None:
    hub.faults.add(fault)
    with pytest.raises(error, match=words):
        Restorer.from_pretrained(NAME)
    assert not list(tmp_path.rglob("stolen*"))
    assert not [path for path in blobs(tmp_path) if path.stat().st_size > 1000]
    hub.faults.clear()
    assert Restorer.from_pretrained(NAME).config == SMALL


@pytest.mark.parametrize(
    ("name", "revision", "words"),
    [
        ("birds/none", None, "no repository 'birds/none'.*embedded sets are: fast"),
        (NAME, "v9", "no revision 'v9'"),
        ("birds/empty", None, r"has no config\.json"),
    ],
)
def test_what_is_not_there(hub: Hub, name: str, revision: str | None, words: str) -> None:
    hub.repositories["birds/empty"] = {}
    with pytest.raises(FileNotFoundError, match=words):
        Restorer.from_pretrained(name, revision=revision)


@pytest.mark.parametrize("revision", ["../../etc", "/etc/passwd", "a//b", "", "a\n"])
def test_a_revision_is_no_path(hub: Hub, revision: str) -> None:
    with pytest.raises(WeightsError, match="not the name of a revision"):
        Restorer.from_pretrained(NAME, revision=revision)
    assert not hub.asked


def test_damage_in_the_cache_is_found_and_mended(hub: Hub, tmp_path: Path) -> None:
    Restorer.from_pretrained(NAME)
    blob = max(blobs(tmp_path), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1  # still a whole and finite set
    blob.write_bytes(data)
    with pytest.raises(WeightsError, match="deleted there"):
        Restorer.from_pretrained(NAME)
    assert Restorer.from_pretrained(NAME).config == SMALL


def test_pickles_are_never_asked_for(hub: Hub, files: dict[str, bytes]) -> None:
    hub.repositories[NAME] = {
        "config.json": files["config.json"],
        "pytorch_model.bin": b"a pickle",
    }
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        Restorer.from_pretrained(NAME)
    assert not any("pytorch_model" in path for _, path, _ in hub.asked)


def test_an_embedded_set_asks_nobody(hub: Hub) -> None:
    Restorer.from_pretrained("fast")
    assert not hub.asked


def test_push_and_load_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def api(**options: Any) -> huggingface_hub.HfApi:
        return huggingface_hub.hf_api.HfApi(endpoint=hub.url, token="hf_x")

    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    card = weights.model_card("birds/new", "8 channels.", "| a | table |", "none.", "apache-2.0")
    torch.manual_seed(1)
    restorer = Restorer(SMALL)
    assert restorer.push_to_hub("birds/new", card) == COMMIT
    published = hub.repositories["birds/new"]
    assert sorted(published) == ["README.md", "config.json", "model.safetensors"]
    text = published["README.md"].decode()
    assert text.startswith("---\nlicense: apache-2.0\n") and "| a | table |" in text
    loaded = Restorer.from_pretrained("birds/new", revision=COMMIT)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, restorer.state_dict()[name])


def test_command_in_an_environment_of_its_own(hub: Hub, tmp_path: Path) -> None:
    """As a user has it: HF_ENDPOINT and HF_HOME, nothing patched."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    program = "import sys; from vrdir_plug.cli import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run(
        [sys.executable, "-c", program, "download", NAME],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0 and "pinned" in run.stdout, run.stderr
    assert list((tmp_path / "home").rglob("model.safetensors"))


@pytest.mark.parametrize(
    ("name", "words"),
    [("birds/none", "no repository 'birds/none'"), ("../birds", "'../birds' is not org/name")],
)
def test_command_says_what_is_wrong(
    hub: Hub, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    assert main(["download", name]) == 2
    assert words in capsys.readouterr().err
