"""A stand-in for a language model: a real HTTP server on loopback that answers by prompt.

It can also fail, stall, ask to wait, and break off in the middle, as told by `mishap`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Mishap = Callable[[str, int], str]
"""Function of a request's digest and how often it came before that returns what goes wrong."""

STALL = 1.5
"""Seconds that a stalled request takes."""
ERRORS = {
    "busy": (429, "slow down"),
    "fail": (500, "out of order"),
    "refuse": (401, "no such key"),
    "reject": (400, "not about that"),
}
"""Status and message of each mishap that is an error."""


class ChatServer:
    """The server, with counts of the requests that came and of those that were paid.

    Args:
        answer: Function of a request's body that returns the text of an answer.
        mishap: What goes wrong with a request.
        seconds: Seconds that work on an answer takes.
        remembers: Whether a request whose `Idempotency-Key` is known gets the answer that is kept
            for it, without new work; a request with that key and another body is refused.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], str],
        mishap: Mishap | None = None,
        seconds: float = 0.0,
        remembers: bool = False,
    ) -> None:
        self.answer, self.mishap = answer, mishap or (lambda key, times: "")
        self.seconds, self.remembers = seconds, remembers
        self.came: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.kept: dict[str, Future[tuple[str, dict[str, Any]]]] = {}
        self.keys: set[str] = set()
        self.at_once = self.most_at_once = 0
        self.times: list[float] = []
        self.lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Answer one request."""
                with owner.lock:
                    owner.at_once += 1
                    owner.most_at_once = max(owner.most_at_once, owner.at_once)
                    owner.times.append(time.monotonic())
                try:
                    owner.handle(self)
                finally:
                    with owner.lock:
                        owner.at_once -= 1

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                """Pass over clients that are gone."""
                error = sys.exc_info()[1]
                if not isinstance(error, ConnectionError):
                    raise error or RuntimeError

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def handle(self, to: BaseHTTPRequestHandler) -> None:
        """Answer a request, unless something is to go wrong."""
        content = to.rfile.read(int(to.headers["Content-Length"]))
        if len(content) < int(to.headers["Content-Length"]):
            return  # the client is gone
        body = json.loads(content)
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with self.lock:
            times = self.came[key]
            self.came[key] += 1
            self.keys.add(to.headers.get("Authorization", ""))
        wrong = self.mishap(key, times)
        if wrong in ERRORS:
            status, message = ERRORS[wrong]
            told = f"{message} (key {to.headers['Authorization']})"
            self.reply(to, status, {"error": {"message": told}}, {"retry-after-ms": "5"})
            return
        if wrong == "stall":
            time.sleep(STALL)
        of, completion = self.kept_or_new(to.headers.get("Idempotency-Key"), key, body, wrong)
        if of != key:
            told = "the Idempotency-Key is that of another request"
            self.reply(to, 422, {"error": {"message": told}})
            return
        self.reply(to, 200, completion, cut=wrong == "cut")

    def kept_or_new(
        self, name: str | None, key: str, body: dict[str, Any], wrong: str
    ) -> tuple[str, dict[str, Any]]:
        """Return the answer kept under a name, or do the work; with the digest of its request.

        A request that comes while the first one is worked on waits for it.
        """
        if not self.remembers or name is None:
            return self.work(key, body, wrong)
        with self.lock:
            first = name not in self.kept
            future = self.kept.setdefault(name, Future())
        if first:
            future.set_result(self.work(key, body, wrong))
        return future.result()

    def work(self, key: str, body: dict[str, Any], wrong: str) -> tuple[str, dict[str, Any]]:
        """Answer a request that has to be paid, whether or not its client is still there."""
        with self.lock:
            self.paid[key] += 1
        time.sleep(self.seconds)
        return key, self.completion(body, wrong)

    def completion(self, body: dict[str, Any], wrong: str) -> dict[str, Any]:
        """Return an answer in the shape of OpenAI's."""
        message = {"role": "assistant", "content": self.answer(body)}
        finish = "length" if wrong == "long" else "stop"
        return {
            "id": "a",
            "object": "chat.completion",
            "created": 1,
            "model": f"{body['model']}-1",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        }

    @staticmethod
    def reply(
        to: BaseHTTPRequestHandler,
        status: int,
        value: Any,
        headers: dict[str, str] | None = None,
        cut: bool = False,
    ) -> None:
        """Send a value as JSON, or the first half of it."""
        content = json.dumps(value).encode()
        to.send_response(status)
        to.send_header("Content-Type", "application/json")
        to.send_header("Content-Length", str(len(content)))
        for name, text in (headers or {}).items():
            to.send_header(name, text)
        to.end_headers()
        to.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            to.close_connection = True


@contextmanager
def serving(
    answer: Callable[[dict[str, Any]], str], mishap: Mishap | None = None, **more: Any
) -> Iterator[ChatServer]:
    """Serve until the block ends; arguments are those of `ChatServer`."""
    found = ChatServer(answer, mishap, **more)
    thread = threading.Thread(target=found.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        thread.join()
        found.server.server_close()
