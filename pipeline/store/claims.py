"""Claims on units: one file per unit that a process is computing; its mtime is a heartbeat.

Claims keep processes from computing the same unit. They are advisory: units are idempotent, so a
claim that is lost or taken over by mistake costs time and nothing else.

All claims of a process in one folder are names of one hidden file (hard links), where the file
system has these: a name costs a fraction of a file, and one heartbeat is that of all.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

BEAT = 5.0
"""Seconds between two heartbeats."""
STALE = 60.0
"""Seconds without a heartbeat after which a claim is stale."""


class _Held(NamedTuple):
    """File of a claim that this process holds."""

    content: str
    inode: int | None = None
    """Inode of the hidden file that the claim is a link to; None for a file of its own."""

    def lies_at(self, path: Path) -> bool:
        """Return whether the claim is still there, and no other process has taken it over."""
        if self.inode is not None:
            return os.stat(path).st_ino == self.inode
        return path.read_text() in (self.content, "")


_held: dict[Path, _Held] = {}
"""Every claim that this process holds, by path."""


@dataclass(frozen=True)
class Claim:
    """A unit, and the process that has claimed it."""

    unit: str
    host: str
    pid: int
    system: str = ""
    """Boot id and pid namespace: a pid can be checked only where both are the same."""

    @property
    def who(self) -> str:
        """`host:pid`"""
        return f"{self.host}:{self.pid}"


class Claims:
    """Claims of this process in one folder, kept alive by a heartbeat until the block ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: set[Path] = set()
        self._over = threading.Event()
        self._file = _Held(json.dumps(asdict(_of_this_process())))
        """A claim that is a file of its own."""
        self._name = self._file
        """A claim that is a name of the hidden file."""
        self._shared: Path | None = None
        """The hidden file that claims are names of."""

    def __enter__(self) -> Claims:
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # then each claim is a file of its own, or says why it cannot be
            shared = self._folder / f".{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            self._make(shared)
            self._name = _Held(self._file.content, os.stat(shared).st_ino)
            self._shared = shared
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for path in list(self._own):
            _drop(path)

    def take(self, unit: str) -> bool:
        """Claim a unit; False if a living process holds it."""
        path = self._path(unit)
        if path in _held:
            return False
        for _ in range(2):
            try:
                self._make(path)
                return True
            except FileExistsError:
                if _living(path):
                    return False
                _take_away(path)
        return False

    def _make(self, path: Path) -> None:
        """Make the file of a claim; FileExistsError if there is one."""
        _held[path] = self._name  # first, so that a signal finds it
        try:
            if not self._link(path):
                _held[path] = self._file
                with open(path, "x") as file:
                    file.write(self._file.content)
            self._own.add(path)
        except FileExistsError:
            del _held[path]
            raise
        except BaseException:  # a full disk, say: it may be there, and empty
            _drop(path)
            raise

    def _link(self, path: Path) -> bool:
        """Make a file another name of the hidden one; return False where that cannot be."""
        if self._shared is None:
            return False
        try:
            os.link(self._shared, path)
        except FileExistsError:
            raise
        except OSError:  # no links on this file system, or somebody removed the hidden file
            return False
        return True

    def release(self, unit: str) -> None:
        """Release a unit."""
        self._own.discard(self._path(unit))
        _drop(self._path(unit))

    def _path(self, unit: str) -> Path:
        return self._folder / f"{unit}.json"

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            for path in list(self._own):
                with suppress(OSError):
                    os.utime(path)


def living(folder: Path) -> list[Claim]:
    """Return the claims in a folder that living processes hold; none where there is no folder."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    found = (_living(folder / name) for name in names if name.endswith(".json"))
    return [claim for claim in found if claim]


def drop_all() -> None:
    """Release all claims of this process, before it exits."""
    for path in list(_held):
        _drop(path)


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold a shared claim on something other than a unit, such as a run."""
    with Claims(path) as claims:
        claims.take(f"{os.uname().nodename}-{os.getpid()}")
        yield


def _of_this_process() -> Claim:
    """A claim of this process; the name of its file says on which unit."""
    return Claim("", os.uname().nodename, os.getpid(), _system())


def _living(path: Path) -> Claim | None:
    """Read a claim; None if it is stale or its process has ended."""
    try:
        content, stat = path.read_bytes(), path.stat()
    except OSError:
        return None
    now = time.time() + _ahead(path.parent, time.monotonic() // STALE)
    if abs(now - stat.st_mtime) > STALE:
        return None
    try:
        claim = Claim(**{**json.loads(content), "unit": path.stem})
    except (ValueError, TypeError, RecursionError):
        claim = Claim(path.stem, "unknown host", 0)  # young, and perhaps being written
    here = claim.system == _system() and isinstance(claim.pid, int)
    return None if here and not _runs(claim.pid) else claim


@cache
def _system() -> str:
    """Return boot id and pid namespace; host and platform where the kernel has neither."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{os.uname().nodename} {sys.platform}"


@lru_cache(maxsize=16)
def _ahead(folder: Path, when: float) -> float:
    """Return by how many seconds the file system's clock is ahead: it may be a server's."""
    probe = folder / f".clock-{uuid.uuid4().hex[:8]}"
    try:
        probe.touch()
        found = probe.stat().st_mtime - time.time()
        probe.unlink()
    except OSError:
        return 0.0  # a folder that can only be read
    return found


def _runs(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except (OSError, OverflowError, IndexError):
        return True
    return state != "Z"


def _take_away(path: Path) -> None:
    """Remove a stale claim; of several processes that try, exactly one succeeds."""
    aside = path.with_name(f".stale-{uuid.uuid4().hex[:8]}")
    with suppress(FileNotFoundError):
        os.replace(path, aside)
        aside.unlink()


def _drop(path: Path) -> None:
    """Delete a claim that is held, unless another process has taken it over."""
    mine = _held.pop(path, None)
    with suppress(OSError):
        if mine is not None and mine.lies_at(path):
            path.unlink()
