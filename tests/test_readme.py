"""The README's code runs as it stands, each block by itself and without a network."""

import re
import socket
from pathlib import Path
from typing import NoReturn

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
CODE = re.finditer(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
BLOCKS = {README.count("\n", 0, code.start(1)): code[1] for code in CODE}  # by line


def refuse(*_: object) -> NoReturn:
    raise ConnectionError("the README's code must run without a network")


def test_there_is_code_to_run() -> None:
    assert BLOCKS


@pytest.mark.parametrize("line", list(BLOCKS))
def test_code_runs(line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    # The empty lines make a traceback count as the README does.
    exec(compile("\n" * line + BLOCKS[line], "README.md", "exec"), {"__name__": "__main__"})
