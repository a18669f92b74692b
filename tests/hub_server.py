"""A small Hugging Face Hub on loopback, with the faults of real networks on request."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What it serves, what goes wrong, and what was asked of it."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.revisions = {"main": COMMIT, COMMIT: COMMIT}
        self.faults: set[str] = set()
        self.asked: list[tuple[str, str, str | None]] = []
        self.url = ""

    def digest(self, name: str, content: bytes) -> str:
        """Git's own hash for texts, SHA-256 for large files."""
        if "wrong hash" in self.faults and name == "model.safetensors":
            return "f" * 64
        if "path for a hash" in self.faults:
            return "../../../../stolen"
        if name == "model.safetensors":
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        part = self.headers.get("Range")
        self.hub.asked.append((self.command, self.path, part))
        name = self.path.rpartition("/")[2]
        if "429" in self.hub.faults:
            return self.refuse(429, "")
        if "login page" in self.hub.faults:
            return self.page(body)
        found = self.find()
        if isinstance(found, str):
            return self.refuse(404, found)
        commit = (
            "../../stolen"
            if "path for a commit" in self.hub.faults
            else self.hub.revisions[self.revision()]
        )
        size = 10**12 if "huge" in self.hub.faults else len(found)
        start = int(part.removeprefix("bytes=").rstrip("-")) if part else 0
        self.send_response(206 if part else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{self.hub.digest(name, found)}"')
        if part:
            self.send_header("Content-Range", f"bytes {start}-{len(found) - 1}/{len(found)}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        if body:
            self.send(found, start, name)

    def revision(self) -> str:
        return self.path.partition("/resolve/")[2].partition("/")[0]

    def find(self) -> bytes | str:
        """The content, or the Hub's word for what is missing."""
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repository not in self.hub.repositories:
            return "RepoNotFound"
        if revision not in self.hub.revisions:
            return "RevisionNotFound"
        return self.hub.repositories[repository].get(name, "EntryNotFound")

    def send(self, content: bytes, start: int, name: str) -> None:
        content = content[start:]
        if "html" in self.hub.faults and name == "model.safetensors":
            content = (b"<html>not here</html>" * len(content))[: len(content)]
        broken = "truncated" in self.hub.faults or ("broken once" in self.hub.faults and not start)
        if broken and name == "model.safetensors":
            content = (
                b"" if "truncated" in self.hub.faults and start else content[: len(content) // 2]
            )
            self.close_connection = True
        self.wfile.write(content)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def page(self, body: bool) -> None:
        page = b"<html>Log in to this network</html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if body:
            self.wfile.write(page)

    # --- uploads: the three questions that the client asks ---------------------------------------

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.asked.append((self.command, self.path, None))
        if self.path == "/api/repos/create":
            name = json.loads(content)
            self.repository = f"{name.get('organization', 'me')}/{name['name']}"
            return self.reply({"url": f"{self.hub.url}/{self.repository}"})
        if self.path.endswith("/validate-yaml"):
            return self.reply({"errors": [], "warnings": []})
        repository, _, action = self.path.removeprefix("/api/models/").rpartition("/")
        repository, _, verb = repository.rpartition("/")
        if verb == "preupload":
            files = json.loads(content)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular"} for f in files]
            return self.reply({"files": [{**mode, "shouldIgnore": False} for mode in modes]})
        assert verb == "commit" and action == "main"
        lines = [json.loads(line) for line in content.splitlines()]
        files = [line["value"] for line in lines if line["key"] == "file"]
        self.hub.repositories[repository] = {
            file["path"]: base64.b64decode(file["content"]) for file in files
        }
        url = f"{self.hub.url}/{repository}/commit/{COMMIT}"
        self.reply({"success": True, "commitOid": COMMIT, "commitUrl": url})

    def reply(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving() -> Iterator[Hub]:
    """A Hub on a free port of 127.0.0.1, until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
