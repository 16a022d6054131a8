"""A web server that drops connections: `flaky.py FILE PORT`.

`/drops/…` gives 4 KiB of the file a connection, but knows ranges; `/dead/…` gives nothing; `/whole/…` gives it all, and
`/slow/…` takes its time for it; `/count/…` tells how often the file was asked for under that path.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE_BYTES = 4096
SLOW_BYTES, SLOW_SECONDS = 256, 15
CONTENT = Path(sys.argv[1]).read_bytes()
asked: Counter[str] = Counter()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    def do_GET(self) -> None:
        """Answer, as far as the path lets."""
        way = self.path.split("/")[1]
        if way == "count":
            self._reply(200, str(asked[self.path.removeprefix("/count")]).encode(), {})
            return
        asked[self.path] += 1
        if way == "whole":
            self._reply(200, CONTENT, {})
        elif way == "drops":
            self._drop()
        elif way == "slow":
            self._reply(200, b"", {}, len(CONTENT))
            for place in range(0, len(CONTENT), SLOW_BYTES):
                self.wfile.write(CONTENT[place : place + SLOW_BYTES])
                time.sleep(SLOW_SECONDS / (len(CONTENT) / SLOW_BYTES))

    def _drop(self) -> None:
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        about = {"Content-Range": f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"1"'}
        rest = CONTENT[begin:]
        self._reply(206 if begin else 200, rest[:PIECE_BYTES], about if begin else {"ETag": '"1"'}, len(rest))

    def _reply(self, status: int, content: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)


ThreadingHTTPServer(("", int(sys.argv[2])), Handler).serve_forever()
