#!/usr/bin/env bash
# `dask worker` ignores the setting distributed.nanny.preload; it obeys distributed.worker.preload beside it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check distributed==2026.7.1
mkdir code
printf 'open("loaded-by-worker", "w").close()\n' > code/for_worker.py
printf 'open("loaded-by-nanny", "w").close()\n' > code/for_nanny.py
cat > watch.py <<'PYTHON'
"""Start a scheduler and `dask worker`, wait for the worker, and say which files its preloads left."""
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import dask
import distributed
from distributed import Client

SETTINGS = {
    "DASK_DISTRIBUTED__WORKER__PRELOAD": "['for_worker']",
    "DASK_DISTRIBUTED__NANNY__PRELOAD": "['for_nanny']",
}
HERE = Path(__file__).parent


def left(settings: dict[str, str], *options: str) -> list[str]:
    folder = Path(tempfile.mkdtemp(dir=HERE))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    env = {**os.environ, **settings, "PYTHONPATH": str(HERE / "code")}
    program = Path(sys.executable).with_name("dask")
    host = ["--host", "127.0.0.1"]
    commands = [
        [program, "scheduler", *host, "--port", str(port), "--no-dashboard"],
        [program, "worker", f"tcp://127.0.0.1:{port}", "--no-dashboard", "--local-directory", folder, *options],
    ]
    running = [subprocess.Popen(c, env=env, cwd=folder, stderr=subprocess.DEVNULL) for c in commands]
    try:
        with Client(f"tcp://127.0.0.1:{port}", timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
        return sorted(path.name for path in folder.rglob("loaded-by-*"))
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    print("distributed", distributed.__version__, "dask", dask.__version__)
    both = left(SETTINGS)
    option = left({}, "--preload-nanny", "for_nanny")
    print("given:   distributed.worker.preload and distributed.nanny.preload, each a module that leaves a file")
    print("guessed: ['loaded-by-nanny', 'loaded-by-worker']: `dask worker` reads both settings")
    print(f"seen:    {both}")
    print(f"with the option --preload-nanny instead: {option}")
    assert both == ["loaded-by-worker"], "changed"
    assert option == ["loaded-by-nanny"], "changed"
PYTHON
venv/bin/python watch.py
