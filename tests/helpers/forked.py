"""Programs in processes that have torch and open_clip imported: forked from one that has."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess

from pipeline.engine.dask.local import PRELOADED
from tests.helpers.runs import ROOT


def run_python(text: str, folder: Path, output: Path) -> CompletedProcess[str]:
    """Run a program in a folder, as `python -c` does but for five seconds of imports.

    It has the environment variables of this process. `output` is a new file; what the program
    prints there is in `stderr`, with its traceback if it fails.
    """
    return ended(start_python(text, folder, output), output)


def start_python(text: str, folder: Path, output: Path) -> BaseProcess:
    """Start what `run_python` runs; `ended` waits for it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(text, folder, output, dict(os.environ)))
    process.start()
    return process


def start_abs(*words: str | Path, output: Path, first: str = "") -> BaseProcess:
    """Start the command `abs` as `start_python` does; the program `first` is run before it."""
    program = f"import sys\nsys.argv = {['abs', *map(str, words)]}\n{first}\n"
    return start_python(f"{program}from pipeline.__main__ import main\nmain()\n", ROOT, output)


def ended(process: BaseProcess, output: Path) -> CompletedProcess[str]:
    """Wait for a process of `start_python`."""
    process.join(500)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(output)
    return CompletedProcess(["python"], process.exitcode, stderr=output.read_text())


def _run(text: str, folder: Path, output: Path, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, "")
    with open(output, "xb") as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})
