"""A server on 127.0.0.1 that takes uploads as the Hub does: repositories made, files named, one commit."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


__all__ = ["HubServer"]


class HubServer:
    """The server, as a context manager.

    Attributes:
        origin: Its address.
        asked: Method and path of each request.
        tokens: Authorization of each request.
        files: Content of what was committed, by path.
        repositories: What each repository was made with.
        refuses: Status that every request gets, or None.
    """

    def __init__(self, refuses: int | None = None) -> None:
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.files: dict[str, bytes] = {}
        self.repositories: list[dict] = []
        self.refuses = refuses
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self.origin = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, path: str, body: bytes) -> dict:
        """Do what a request asks for and return the answer."""
        if path == "/api/repos/create":
            made = json.loads(body)
            self.repositories.append(made)
            name = f"{made.get('organization', 'someone')}/{made['name']}"
            return {"url": f"{self.origin}/datasets/{name}", "name": name, "id": "1"}
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return {"files": modes}
        if "/commit/main" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    assert value["encoding"] == "base64"
                    self.files[value["path"]] = base64.b64decode(value["content"])
            address = self.origin + path.removeprefix("/api").replace("commit/main", f"commit/{'1' * 40}")
            return {"commitUrl": address, "commitOid": "1" * 40, "success": True}
        return {"sha": "0" * 40, "id": "x", "siblings": [], "tags": [], "private": False, "downloads": 0, "likes": 0}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        hub: HubServer = self.server.hub
        body = self._body()
        hub.asked.append(f"{self.command} {self.path}")
        hub.tokens.add(self.headers.get("Authorization"))
        sent = hub.reply(self.path.partition("?")[0], body) if hub.refuses is None else {"error": "no, not you"}
        content = json.dumps(sent).encode()
        self.send_response_only(hub.refuses or 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)
