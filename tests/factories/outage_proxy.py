"""A small HTTP proxy before the real Label Studio: it passes requests on, or answers with a status, or hangs up."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

#: Hang up without an answer.
DOWN = 0


@dataclass
class Proxy:
    """`answer`: None passes requests on, a status is answered, `DOWN` hangs up. `asked`: paths, in order."""

    url: str
    answer: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def before(url: str) -> Iterator[Proxy]:
    """The proxy, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            proxy.asked.append(self.path)
            if proxy.answer == DOWN:
                self.close_connection = True
                return
            status, headers, content = proxy.answer, proxy.headers, b"{}"
            if status is None:
                passed = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                answer = upstream.request(self.command, self.path, content=body, headers=passed)
                status, headers, content = answer.status_code, {"Content-Type": "application/json"}, answer.content
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, name="proxy")
    with httpx.Client(base_url=url, timeout=60) as upstream:
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join(timeout=30)
            server.server_close()
