"""A description of classes by a model: what is to be asked, and the file that the answers give.

The file is a function of the stored answers, the recipe and the names of the classes alone.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.core.files import write_atomic
from pipeline.core.hashing import digest
from pipeline.describe.answers import Answer, Answers
from pipeline.describe.cleaning import Cleaned, Dropped, cleaned, unmarked, without_thoughts
from pipeline.describe.client import Price
from pipeline.describe.recipes import CLASS, Recipe
from pipeline.describe.requests import Request, class_requests, question_request

SLOT = "{}"
QUESTIONS = 10
"""Questions that a first step is taken to give, for estimates before it is answered."""
COLUMNS = ("key", "class", "prompt", "answer")
"""Columns of the table of prompts and of the table of answers."""


@dataclass(frozen=True)
class Description:
    """A recipe for the classes of a dataset, with the answers that are stored."""

    name: str
    """Name of the recipe."""
    recipe: Recipe
    model: str
    """Name of the model, as the endpoint knows it."""
    about: str
    """Sentence about the dataset; empty for recipes that do not need it."""
    names: Sequence[str]
    """Names of the classes."""
    answers: Answers

    @cached_property
    def question(self) -> Request | None:
        """The request of the first step, if the recipe has one."""
        return question_request(self.recipe, self.model, self.about)

    def prompts(self) -> tuple[str, ...] | None:
        """Prompts of a class; None until the first step is answered.

        AbsError if its answer has no question in it.
        """
        if self.question is None:
            return self.recipe.prompts
        if self.question not in self.answers:
            return None
        answer = without_thoughts(self.answers[self.question].text)
        lines = dict.fromkeys(map(unmarked, answer.splitlines()))
        found = tuple(
            line.replace(SLOT, CLASS)
            for line in lines
            if line.count(SLOT) == 1 and line.count("{") == 1
        )
        if not found:
            raise AbsError(
                f"the model wrote no question with {SLOT} in it; ask again with -s recipe.seed="
                f"{self.recipe.seed + 1}, or another model"
            )
        return found

    def requests(self) -> list[Request]:
        """Return the requests that are known by now: the first step, or those of all classes."""
        prompts = self.prompts()
        if prompts is None:
            assert self.question is not None
            return [self.question]
        return list(class_requests(self.recipe, self.model, self.about, prompts, self.names))

    def pending(self) -> list[Request]:
        """Return the requests that have no stored answer."""
        return [request for request in self.requests() if request not in self.answers]

    def plan(self, price: Price) -> dict[str, Any]:
        """Return numbers of requests, and of tokens and money for those to be sent, at most."""
        prompts, first = self.prompts(), []
        if prompts is None:
            prompts, first = (CLASS + " ?" * QUESTIONS,) * QUESTIONS, self.requests()
        every = [*class_requests(self.recipe, self.model, self.about, prompts, self.names), *first]
        left = [request for request in every if request not in self.answers]
        tokens = sum(each.tokens for each in left), sum(each.max_tokens for each in left)
        return {
            "recipe": self.name,
            "model": self.model,
            "classes": len(dict.fromkeys(self.names)),
            "requests": len(every),
            "stored": len(every) - len(left),
            "to_send": len(left),
            "estimated": bool(first),
            "tokens_in": tokens[0],
            "tokens_out_at_most": tokens[1],
            "cost_at_most": price.of(*tokens),
            "spent": self.spent(price),
        }

    def spent(self, price: Price) -> float:
        """Return what the stored answers of this description have cost."""
        requests = [*([self.question] if self.question else []), *self.requests()]
        stored = [self.answers[r] for r in dict.fromkeys(requests) if r in self.answers]
        return sum(price.of(answer.tokens_in, answer.tokens_out) for answer in stored)

    # --- Files ----------------------------------------------------------------------------------

    @property
    def stem(self) -> str:
        """Name for files of this description: recipe, model, and a digest of all its settings."""
        settings = [self.recipe.model_dump(mode="json"), self.model, self.about]
        model = re.sub(r"[^A-Za-z0-9.]+", "-", self.model).strip("-")
        return f"{self.name}-{model}-{digest(settings)[:6]}"

    def texts(self) -> Cleaned:
        """Return the texts in the stored answers, by class and in the order of requests."""
        stored = [request for request in self.requests() if request in self.answers]
        return cleaned(((each.label, self.answers[each]) for each in stored), self.recipe)

    def write(self, path: Path) -> dict[str, Any]:
        """Write the texts of all classes, and a table of what was left out beside it.

        Returns:
            Counts for the user, and both paths.

        Raises:
            AbsError: If a class has no text; then only the table is written.
        """
        found = self.texts()
        by_class: dict[str, list[str]] = {name: [] for name in self.names}
        for text in found.texts:
            by_class[text.label].append(text.text)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = path.with_suffix(".dropped.csv")
        write_atomic(table, _csv(Dropped._fields, found.dropped))
        if empty := [name for name, texts in by_class.items() if not texts]:
            raise AbsError(
                f"{len(empty)} of {len(by_class)} classes have no text, such as {empty[0]!r}; "
                f"{table} lists what was left out, and why"
            )
        content = json.dumps(by_class, indent=1, ensure_ascii=False) + "\n"
        write_atomic(path, content.encode(errors="replace"))
        counts = [len(texts) for texts in by_class.values()]
        reasons = Counter(each.reason for each in found.dropped)
        return {
            "file": str(path),
            "classes": len(by_class),
            "texts": len(found.texts),
            "fewest": min(counts),
            "most": max(counts),
            "dropped": dict(reasons.most_common()),
            "dropped_file": str(table),
        }

    def write_prompts(self, path: Path) -> int:
        """Write the requests without an answer as a table to fill in; return their number."""
        rows = [(each.key, each.label, each.prompt, "") for each in self.pending()]
        write_atomic(path, _csv(COLUMNS, rows))
        return len(rows)

    def add_answers(self, path: Path) -> tuple[int, int]:
        """Store the answers of a table; return how many, and how many are still empty.

        AbsError for a table of another kind, or with keys of other requests.
        """
        known = {request.key: request for request in self.requests()}
        rows = _rows(path)
        if unknown := [row["key"] for row in rows if row["key"] not in known]:
            raise AbsError(
                f"{path}: {len(unknown)} of {len(rows)} keys are of other requests, such as "
                f"{unknown[0]!r}; give the model, recipe and settings of --prompts-to"
            )
        filled = [row for row in rows if row["answer"].strip()]
        for row in filled:
            request = known[row["key"]]
            if request in self.answers and self.answers[request].text != row["answer"]:
                raise AbsError(f"{path}: {row['key']} has another answer stored already")
        for row in filled:
            told: dict[str, Any] = {"text": row["answer"], "finish": "stop", "model": self.model}
            answer = Answer.to(known[row["key"]], self.name, tokens_in=0, tokens_out=0, **told)
            self.answers.add(answer)
        return len(filled), len(rows) - len(filled)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    return text.getvalue().encode(errors="replace")


def _rows(path: Path) -> list[dict[str, str]]:
    """Read a table with the columns key and answer, as spreadsheets save it."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise MissingInput(f"answers not found: {path}") from None
    except UnicodeDecodeError:
        raise AbsError(f"{path} is not UTF-8; save it as UTF-8") from None
    first = text.partition("\n")[0]
    semicolons = ";" in first and "," not in first  # as spreadsheets of some countries save it
    try:
        rows = list(
            csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if semicolons else ",")
        )
    except csv.Error as error:
        raise AbsError(f"{path} is not a CSV table: {error}") from None
    if not rows or any(row.get("key") is None or row.get("answer") is None for row in rows):
        raise ConfigError(f"{path}: expected the columns {', '.join(COLUMNS)}, as --prompts-to has")
    return rows
