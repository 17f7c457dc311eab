"""Pages of Markdown, as far as tests need them: blocks of code, links, anchors, words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\s*$")
MARKER = re.compile(r"^<!-- not run: (?P<reason>\S.*?) -->$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HOLDS_INDENTED = ("!!! ", "??? ", "::: ", "- ", "* ")
"""How paragraphs begin whose indented continuation is no code."""


@dataclass(frozen=True)
class Block:
    """A block of code."""

    page: str
    line: int
    language: str
    text: str
    why_not: str = ""
    """Why it is not run, from the comment in front of it."""

    @property
    def where(self) -> str:
        """`README.md:17`"""
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Fenced blocks; and indented ones, which are commands of a shell."""
    lines = page.read_text().split("\n")
    number, before = 0, ""
    while number < len(lines):
        start, fence = number, FENCE.match(lines[number])
        if fence:
            number = lines.index("```", start + 1)
            marker = MARKER.match(lines[start - 1].strip()) if start else None
            text = "\n".join(lines[start + 1 : number])
            why_not = marker["reason"] if marker else ""
            yield Block(page.name, start + 1, fence[1], text, why_not)
            before = ""
        elif _indented(lines, number) and not before.startswith(HOLDS_INDENTED):
            while number + 1 < len(lines) and lines[number + 1].startswith("    "):
                number += 1
            text = "\n".join(line[4:] for line in lines[start : number + 1])
            yield Block(page.name, start + 1, "sh", text)
        elif lines[number].strip() and not lines[number].startswith("  "):
            before = lines[number]
        number += 1


def _indented(lines: list[str], number: int) -> bool:
    first = number == 0 or not lines[number - 1].strip()
    return first and lines[number].startswith("    ")


def markers(page: Path) -> list[int]:
    """Lines of all comments that say why something is not run, well formed or not."""
    return [
        n for n, line in enumerate(page.read_text().split("\n"), 1) if line.startswith("<!-- not")
    ]


def prose(page: Path) -> str:
    """The page without its blocks of code and comments."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def links(page: Path) -> list[str]:
    """Targets of links and images that lie in the project: `path#anchor`."""
    found = LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page)))
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def anchors(page: Path) -> set[str]:
    """Anchors of the page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings)
    return {re.sub(r"\s+", "-", heading) for heading in plain}


def words_before_code(page: Path) -> int:
    """Words that are read before the first block of code; images are none."""
    head = page.read_text().partition("\n```")[0]
    head = re.sub(r"!\[[^\]]*\]\([^)]*\)|<!--.*?-->", "", head, flags=re.DOTALL)
    return len(re.findall(r"\w[\w'-]*", head))


def tables(page: Path) -> list[list[str]]:
    """The cells of every row of every table."""
    rows = re.findall(r"^\|(.*)\|$", page.read_text(), re.MULTILINE)
    return [[cell.strip() for cell in row.split(" | ")] for row in rows]
