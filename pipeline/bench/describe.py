"""Kill `abs describe` again and again, and see what is asked and paid twice, and that it ends the
same.

    python -m pipeline.bench.describe --classes 1000 --samples 10 --kills 20 --remembers

A server on loopback answers. Every other kill is SIGTERM, after which the requests under way are
awaited and stored; the others are SIGKILL, after which only those can be sent again. A server that
remembers `Idempotency-Key` then does no work twice; all kills are SIGKILL with it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from pipeline.bench.chat_server import ChatServer, serving
from pipeline.core.layers import CFGS
from pipeline.core.paths import PROJECT
from pipeline.describe.answers import Answer, Answers
from pipeline.describe.description import Description
from pipeline.describe.recipes import load_recipe

CONCURRENCY = 8
"""Requests of a process under way at once."""
SECONDS = 0.02
"""Seconds that an answer takes, so that a kill finds requests under way."""


def answer(body: dict[str, Any]) -> str:
    """Answer a request with a sentence of its own that names the class."""
    prompt = body["messages"][-1]["content"]
    name = prompt[prompt.index("<") + 1 : prompt.index(">")]
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return f"Sure! Here is one:\n\nA {name} is {int(digest[:4], 16) / 10} cm long, like {digest}."


def write_dataset(folder: Path, classes: int) -> Path:
    """Write a dataset of many classes, most of which only compete, and a recipe."""
    config = yaml.safe_load((CFGS / "datasets" / "demo.yaml").read_text())
    names = sorted(
        path.name.replace("_", " ") for path in (PROJECT / config["dataset"]["root"]).iterdir()
    )
    invented = [f"bird {number}" for number in range(classes - len(names))]
    (folder / "names.json").write_text(json.dumps([*names, *invented][:classes]))
    config["dataset"] |= {"name": "many", "vocabulary": str(folder / "names.json")}
    (folder / "many.yaml").write_text(yaml.safe_dump(config))
    recipe = yaml.safe_load((CFGS / "recipes" / "cupl.yaml").read_text())
    recipe["prompts"] = [prompt.replace("{class}", "<{class}>") for prompt in recipe["prompts"]]
    (folder / "cupl.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "many.yaml"


def write_directly(folder: Path, samples: int) -> int:
    """Write the file without a server or another process; return the number of requests."""
    recipe = load_recipe(str(folder / "cupl.yaml"), [f"samples={samples}"])
    names = json.loads((folder / "names.json").read_text())
    answers = Answers(folder / "direct.jsonl")
    description = Description("cupl", recipe, "m", "", names, answers)
    with answers.writing():
        for request in description.requests():
            told: dict[str, Any] = {"text": answer(request.body), "finish": "stop", "model": "m-1"}
            answers.add(Answer.to(request, "cupl", tokens_in=11, tokens_out=7, **told))
    description.write(folder / "direct.json")
    return len(description.requests())


def start(server: ChatServer, folder: Path, store: str, samples: int) -> subprocess.Popen[str]:
    """Start `abs describe` with a store of its own."""
    words = ["describe", folder / "many.yaml", "--recipe", folder / "cupl.yaml", "--model", "m"]
    words += [
        "--endpoint",
        server.address,
        "-s",
        f"recipe.samples={samples}",
        "--to",
        folder / store,
    ]
    words += ["--concurrency", CONCURRENCY, "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *map(str, words)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ABS_ARTIFACTS": str(folder / f"{store}-store")},
    )


def kill_and_compare(
    classes: int, samples: int, kills: int, seed: int = 0, remembers: bool = False
) -> dict[str, Any]:
    """Describe with kills, and without a server; return what came and was paid twice, and whether
    the files differ.

    Raises:
        RuntimeError: If a run does not end well.
    """
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_dataset(folder, classes)
        total = write_directly(folder, samples)
        began = time.monotonic()
        marks = sorted(random.Random(seed).sample(range(1, total), kills))
        ends = [signal.SIGKILL, signal.SIGKILL if remembers else signal.SIGTERM]
        with serving(answer, seconds=SECONDS, remembers=remembers) as server:
            for number, mark in enumerate(marks):
                process = start(server, folder, "killed.json", samples)
                while process.poll() is None and len(server.came) < mark:
                    time.sleep(0.002)
                process.send_signal(ends[number % 2])
                process.communicate(timeout=60)
            _finish(start(server, folder, "killed.json", samples))
        twice, paid = (
            sum(count - 1 for count in counts.values()) for counts in (server.came, server.paid)
        )
        same = (folder / "direct.json").read_bytes() == (folder / "killed.json").read_bytes()
        return {
            "requests": total,
            "kills": kills,
            "sent_again": twice,
            "paid_again": paid,
            "sent_again_at_most": (kills if remembers else (kills + 1) // 2) * CONCURRENCY,
            "same_file": same,
            "same_requests": len(server.came) == total,
            "seconds_with_kills": round(time.monotonic() - began, 1),
        }


def _finish(process: subprocess.Popen[str]) -> None:
    _, told = process.communicate()
    if process.returncode:
        raise RuntimeError(told)


def main() -> None:
    """Print the outcome as JSON; exit with 1 if a promise is broken."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("classes", 1000), ("samples", 10), ("kills", 20), ("seed", 0)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--remembers", action="store_true", help="know the Idempotency-Key")
    chosen = options.parse_args()
    found = kill_and_compare(**vars(chosen))
    print(json.dumps(found, indent=1))
    kept = found["same_file"] and found["same_requests"]
    kept = kept and not (chosen.remembers and found["paid_again"])
    sys.exit(0 if kept and found["sent_again"] <= found["sent_again_at_most"] else 1)


if __name__ == "__main__":
    main()
