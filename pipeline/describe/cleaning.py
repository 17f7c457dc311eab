"""Texts in the answers of language models, and the reasons why others are left out.

Chat models think aloud, greet, number their lists, mark words up and are cut off in the middle.
Nothing is rewritten: a text is a part of an answer, without what surrounds it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.describe.answers import Answer
from pipeline.describe.recipes import Recipe

THOUGHT = re.compile(r"<(think(?:ing)?|reasoning|thought)>.*?(?:</\1>|\Z)", re.DOTALL | re.I)
"""Reasoning between tags; to the end if it was cut off."""
THOUGHT_END = re.compile(r"\A.*</(?:think(?:ing)?|reasoning|thought)>", re.DOTALL | re.I)
"""Reasoning whose opening tag the server has kept."""
MARKER = re.compile(
    r"^\s*(?:[-*+\u2022\u2023\u25aa\u2013\u2014]|\(?[0-9]{1,3}[.):]|\(?[a-zA-Z]\))\s+"
)
"""Marker of an item of a list. "3.5 cm" is none: a space follows a marker."""
GREETING = re.compile(
    r"^(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|great|gladly)"
    r"(?:\s*[!.]\s+|\s*[!,:\u2013\u2014-]+\s*(?=here\b)|\s*[!.:]?\s*$)",
    re.I,
)
"""Greeting of a chat model that ends as a sentence, or goes before "here is"."""
ANNOUNCEMENT = re.compile(
    r"^(?:(?:here(?:['\u2019]s| is| are)|below (?:is|are)|the following)\b[^.!?\n]*?"
    r"|caption|description|answer|sentence|output):\s*",
    re.I,
)
"""Announcement that ends with a colon: "Here is a sentence:"."""
REFUSAL = re.compile(
    r"^(?:i(?:['\u2019]m| am) (?:sorry|unable|not able)\b|sorry\b|i can(?:not|['\u2019]t)\b"
    r"|as an? (?:ai|language model)\b|i do(?:n['\u2019]t| not) (?:know|have)\b)",
    re.I,
)
ABBREVIATIONS = {"approx", "ca", "cf", "dr", "e.g", "fig", "i.e", "mr", "mrs", "ms", "st", "vs"}
"""Words after whose full stop a sentence goes on, also before a capital letter or a number."""
STOP = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s|$)")
"""End of a sentence, before a space: the full stop of "3.5" is none."""
QUOTES = "\"'`\u201c\u201d\u2018\u2019"


class Text(NamedTuple):
    """A text of a class."""

    label: str
    text: str
    key: str
    """Request that it answers."""


class Dropped(NamedTuple):
    """A part of an answer that is left out."""

    label: str
    text: str
    reason: str
    key: str
    """Request that it answers."""


@dataclass
class Cleaned:
    """Texts taken from answers, and what was left out."""

    texts: list[Text]
    dropped: list[Dropped]


def cleaned(answers: Iterable[tuple[str, Answer]], recipe: Recipe) -> Cleaned:
    """Take the texts from answers, in their order.

    answers: name of the class and answer of each request.
    """
    found = Cleaned([], [])
    seen: dict[str, set[str]] = {}
    for label, answer in answers:
        for text, reason in parts(answer.text, answer.finish == "length", recipe):
            known = seen.setdefault(label, set())
            reason = reason or unfit(text, label, recipe)
            if not reason and plain(text) in known:
                reason = "the class has this text already"
            if not reason and len(known) >= recipe.most:
                reason = f"the class has {recipe.most} texts already"
            if reason:
                found.dropped.append(Dropped(label, text, reason, answer.key))
            else:
                known.add(plain(text))
                found.texts.append(Text(label, text, answer.key))
    return found


def parts(answer: str, cut: bool, recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield the parts of an answer that a recipe takes, each with a reason to drop it, or none.

    `cut`: the answer ends because it was too long, so that its last part may be half of one.
    """
    text = without_thoughts(answer)
    if not text:
        yield (
            " ".join(answer.split())[:200],
            "reasoning without an answer" if answer.strip() else ("an empty answer"),
        )
        return
    lines = [line for line in map(unmarked, text.splitlines()) if line]
    if not lines:
        yield " ".join(text.split()), "an opening without an answer"
        return
    if REFUSAL.match(lines[0]):
        yield " ".join(lines), "the model declined"
    elif recipe.take == "list":
        yield from _items(text, cut)
    else:
        found = [each for line in lines for each in sentences(line)]
        for number, sentence in enumerate(found[:1] if recipe.take == "first" else found):
            last = number == len(found) - 1
            whole = not cut or not last or STOP.search(sentence[-2:])
            yield _ended(sentence) if whole else sentence, "" if whole else "cut off"


def _items(text: str, cut: bool) -> Iterator[tuple[str, str]]:
    """Yield the items of a list; every line is one if none has a marker."""
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if MARKER.match(line)]
    for line in marked or lines:
        item = unmarked(line)
        if not item:
            continue
        last = cut and line is lines[-1]
        item = item.rstrip(" .;,")
        keeps = item[:2].isupper() or item[:1].isdigit()  # an abbreviation keeps its capitals
        yield item if keeps else item[:1].lower() + item[1:], "cut off" if last else ""


def without_thoughts(answer: str) -> str:
    """Return an answer without the reasoning before it."""
    text = THOUGHT.sub("", answer.replace("\r\n", "\n"))
    return THOUGHT_END.sub("", text).strip()


def unmarked(line: str) -> str:
    """Return a line without list marker, markup, greeting and announcement; perhaps empty."""
    line = re.sub(r"^\s*(?:#{1,6}\s+|>\s+|```\w*\s*$)", "", line)
    line = MARKER.sub("", line)
    line = re.sub(r"\*\*(.+?)\*\*|__(.+?)__|`([^`]+)`", lambda m: m[1] or m[2] or m[3], line)
    line = re.sub(r"(?<!\w)[*_](\S(?:.*?\S)?)[*_](?!\w)", r"\1", line)
    line = " ".join(line.split())
    before = None
    while line != before:
        before = line
        line = ANNOUNCEMENT.sub("", GREETING.sub("", line)).strip()
    quoted = len(line) > 1 and line[0] in QUOTES and line[-1] in QUOTES
    return line[1:-1].strip() if quoted else line


def sentences(line: str) -> list[str]:
    """Split a line into sentences; full stops of decimals and abbreviations end none.

    The last one may have no full stop.
    """
    found, start = [], 0
    for stop in STOP.finditer(line):
        after = line[stop.end() :].lstrip()
        before = line[start : stop.start()]
        word = before.rsplit(None, 1)[-1] if before.split() else ""
        initial = len(word) == 1 and word.isupper()
        short = initial or word.lower().lstrip("(") in ABBREVIATIONS
        goes_on = stop[0].startswith(".") and (after[:1].islower() or (after and short))
        if not goes_on:
            found.append(line[start : stop.end()].strip())
            start = stop.end()
    rest = line[start:].strip()
    return [*found, rest] if rest else found


def _ended(sentence: str) -> str:
    """Return a sentence with a full stop at its end."""
    return sentence if STOP.search(sentence[-3:]) else sentence.rstrip(" ,;:") + "."


def unfit(text: str, label: str, recipe: Recipe) -> str:
    """Return the reason why a text of a class is no use; empty if it is."""
    if len(text) < recipe.least:
        return f"fewer than {recipe.least} characters"
    if not any(map(str.isalpha, text)):
        return "no word in it"
    if text.endswith("?"):
        return "a question"
    if re.search(r"\{[^{}]*\}|\[[^\[\]]*\]", text):
        return "a slot that was not filled in"
    if recipe.named and not names(text, label):
        return "does not name the class"
    return ""


def names(text: str, label: str) -> bool:
    """Return whether a text has a name in it, whatever its case, hyphens and plural."""
    found, wanted = f" {_words(text)} ", _words(label)
    last = wanted.rpartition(" ")[2]
    plurals = [wanted + "s", wanted + "es"]
    if last.endswith("y"):
        plurals.append(wanted[:-1] + "ies")
    return any(f" {name} " in found for name in (wanted, *plurals))


def plain(text: str) -> str:
    """Return what equal texts have in common, whatever their case, spaces and punctuation."""
    return _words(text)


def _words(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    folded = re.sub(r"'s\b", "", folded)
    return " ".join(re.findall(r"\d+(?:[.,]\d+)*|[^\W\d_]+", folded))
