"""Stored answers of language models: a file of lines that is only ever appended to.

Each line is a checksum and a JSON object. A line that was cut off, by a kill or a power cut, fits
its checksum no more and is passed over, so that its request is asked again.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.core.errors import AbsError
from pipeline.core.files import seal_of
from pipeline.describe.requests import Request

SYNC_EVERY = 1.0
"""Seconds between two syncs: what a power cut may lose. A killed process loses nothing."""


@dataclass(frozen=True)
class Answer:
    """A model's answer, with what it was asked."""

    key: str
    request: dict[str, Any]
    """Model, messages, seed and limits, as they were sent, and the class."""
    recipe: str
    """Name of the recipe it was asked for first."""
    model: str
    """Model that answered, by its own account."""
    text: str
    """The answer, unchanged."""
    finish: str
    """Reason why it ends: `stop`, or `length` if it is cut."""
    tokens_in: int
    tokens_out: int

    @classmethod
    def to(cls, request: Request, recipe: str, **told: Any) -> Answer:
        """Return the answer to a request."""
        return cls(request.key, {**request.body, "class": request.label}, recipe, **told)


class Answers:
    """All stored answers of a dataset, by the key of their requests."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        """Lines that do not fit their checksum."""
        self._known: dict[str, Answer] = {}
        self._file: BinaryIO | None = None
        self._lock, self._synced = threading.Lock(), 0.0
        self._read()

    def _read(self) -> None:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in filter(None, lines):
            seal, _, content = line.partition(b" ")
            if seal_of(content).encode() == seal:
                answer = Answer(**json.loads(content))
                self._known.setdefault(answer.key, answer)
            else:
                self.damaged += 1

    def __contains__(self, request: Request) -> bool:
        return request.key in self._known

    def __getitem__(self, request: Request) -> Answer:
        return self._known[request.key]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the file open to add answers; AbsError if another process does."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AbsError(
                    f"{self.path}: another process adds answers; wait for it, or stop it"
                ) from None
            self._known, self.damaged = {}, 0
            self._read()  # what another process added before this one held the file
            if file.tell() and not self.path.read_bytes().endswith(b"\n"):
                file.write(b"\n")  # ends a line that was cut off
            self._file = file
            try:
                yield
            finally:
                self._file = None
                file.flush()
                os.fsync(file.fileno())

    def add(self, answer: Answer) -> None:
        """Append an answer; it survives the end of this process at once."""
        content = json.dumps(asdict(answer), ensure_ascii=True).encode()
        with self._lock:
            assert self._file is not None, "answers are added within `writing`"
            if answer.key in self._known:
                return
            self._file.write(seal_of(content).encode() + b" " + content + b"\n")
            self._file.flush()
            self._known[answer.key] = answer
            if time.monotonic() - self._synced > SYNC_EVERY:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
