"""The server of the growing page: read-only, for this machine alone, behind an address that nobody can guess."""

from __future__ import annotations

import contextlib
import hmac
import json
import math
import secrets
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit

from grokinterp import __version__
from grokinterp.errors import GrokinterpError, explained, os_errors_explained
from grokinterp.plots.parts import STYLES
from grokinterp.reports.live.folder import FolderOfRuns

_HOST = "127.0.0.1"
_POLICY = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; connect-src 'self'"


class Watch:
    """The growing page of the runs and sweeps in a folder, served to this machine until it is closed; also a context manager.

    The page shows how far each run is, its curves, how long it still takes at most, and what failed. It is read-only, bound to 127.0.0.1 and
    refuses whoever does not know the random token in its address. In a notebook that runs on this machine the object shows the page itself.

    Args:
        folder: of runs and sweeps, at any depth; or one run.
        port: of the address; 0 for any that is free.

    Attributes:
        address: what to open in a browser.

    Raises:
        GrokinterpError: there is no such folder, or the port is taken.
    """

    @os_errors_explained()
    def __init__(self, folder: str | Path, *, port: int = 0) -> None:
        path = Path(folder).resolve()
        if not path.is_dir():
            raise GrokinterpError(f"{folder} is not a folder; name the one that your runs lie in, or start a training that makes it")
        if not 0 <= port < 1 << 16:
            raise GrokinterpError(f"a port is a number from 0 to 65535; got {port}")
        try:
            self._server = _Server(port, FolderOfRuns(path))
        except OSError as error:
            raise explained(error, f"port {port} of {_HOST}") from error
        self.address = f"http://{_HOST}:{self._server.server_address[1]}/{self._server.token}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="grokinterp watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> None:
        """Serve until an interrupt."""
        while self._thread.is_alive():
            self._thread.join(3600)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Watch({str(self._server.runs.path)!r} at {self.address})"

    def _repr_html_(self) -> str:
        return f'<iframe src="{escape(self.address)}" title="Runs" style="width: 100%; height: 46rem; border: 0"></iframe>'


class _Server(ThreadingHTTPServer):
    """Holds what requests share."""

    daemon_threads = True  # an open connection of a browser does not keep the process alive
    allow_reuse_address = True

    def __init__(self, port: int, runs: FolderOfRuns) -> None:
        self.runs, self.token = runs, secrets.token_urlsafe(24)
        super().__init__((_HOST, port), _Request)


class _Request(BaseHTTPRequestHandler):
    """One request; only GET and HEAD are answered."""

    server: _Server
    server_version, sys_version = "grokinterp", ""
    timeout = 10  # seconds that a request may take to be said

    def do_GET(self) -> None:
        """Answer with the page, with the library that draws, or with the state of the runs."""
        address = urlsplit(self.path)
        _, token, *rest = [*address.path.split("/"), ""]
        # A page of another host, whose name was made to lead here, is refused as well.
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (_HOST, "localhost") or not hmac.compare_digest(token.encode(), self.server.token.encode()):
            return self._send(403, "text/plain", b"This address is not the one that grokinterp watch printed.\n")
        name = "/".join(rest[:-1])
        if name == "":
            return self._send(200, "text/html", _page(self.server.runs.path))
        if name == "plotly.js":
            return self._send(200, "text/javascript", _plotly(), cache="private, max-age=86400")
        if name == "state":
            quantity = parse_qs(address.query).get("quantity", ["test_loss"])[-1]
            return self._send(200, "application/json", json.dumps(_finite(self.server.runs.state(quantity))).encode())
        return self._send(404, "text/plain", b"There is no such page here.\n")

    do_HEAD = do_GET

    def _send(self, status: int, kind: str, body: bytes, cache: str = "no-store") -> None:
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), "Cache-Control": cache}
        headers |= {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        for name, value in headers.items():
            self.send_header(name, value)
        with contextlib.suppress(ConnectionError):  # a reader who has gone need not be told
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Requests are not printed."""


def _page(folder: Path) -> bytes:
    template = Template(resources.files("grokinterp.reports.live").joinpath("live.html").read_text(encoding="utf-8"))
    text = template.substitute(title=escape(f"Runs in {folder.name or folder}"), version=escape(__version__), styles=json.dumps(STYLES))
    return text.encode("utf-8", "backslashreplace")


def _plotly() -> bytes:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).encode()


def _finite(value: Any) -> Any:
    """JSON values in which a number that is not finite is its name, since JSON has none such."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
