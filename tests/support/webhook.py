"""An HTTP server that keeps what is posted to it, as a target of notifications."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kitelake.config import NotificationTarget

CANARY = "canary-7f3a9c"


class Webhook:
    """An HTTP server that keeps what is posted to it, and answers with `status` once `open` is set."""

    def __init__(self) -> None:
        self.status = 200
        self.open = threading.Event()
        self.open.set()
        self.posts: list[dict[str, Any]] = []
        self.paths: list[str] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.open.wait(30)
                webhook.posts.append(json.loads(body))
                webhook.paths.append(self.path)
                self.send_response(webhook.status)
                self.end_headers()
                self.wfile.write(b"answer " + CANARY.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self._thread.start()

    def target(self, **options: Any) -> NotificationTarget:
        url = f"json://127.0.0.1:{self.server.server_port}/{CANARY}"
        return NotificationTarget.model_validate({"url": url, **options})

    def close(self) -> None:
        self.open.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
