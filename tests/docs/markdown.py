"""The Markdown pages of this project, and the code blocks in them.

A comment right above a block says how it is tested, where the language alone does not:

- `<!-- test: file server.py -->`  the reader's file; written for the commands that follow
- `<!-- test: get /hello/Ada 200 Hello Ada -->`  the block makes a web app, which then has to answer
  with this status and these words
- `<!-- test: output -->`          what the Python block before prints, in shape
- `<!-- test: same as FILE -->`    the block is that file of the repository
- `<!-- test: perhaps A|B -->`     lines with one of these words may come or not
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "blocks", "pages", "same_shape"]

ROOT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(
    r"(?:^<!-- test: (?P<order>.*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    order: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def perhaps(self) -> str:
        """Words, by `|`, of lines that may come or not."""
        return self.order.removeprefix("perhaps ") if self.order.startswith("perhaps ") else ""

    @property
    def file(self) -> str | None:
        """The name of the reader's file that it is, if it is one."""
        return self.order.removeprefix("file ") if self.order.startswith("file ") else None


def pages() -> list[str]:
    """All pages, as paths from the root."""
    docs = sorted(ROOT.joinpath("docs").rglob("*.md"))
    return ["README.md", *(str(page.relative_to(ROOT)) for page in docs)]


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    text = ROOT.joinpath(page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("language")) + 1,
            found["language"],
            found["order"] or "",
            found["text"],
        )
        for found in _BLOCK.finditer(text)
    ]


def _shape(line: str) -> str:
    line = re.sub(r"\b[0-9a-f]{12}\b", "ID", line)  # endpoint ids
    line = re.sub(r"local://\S+?\.db", "local://FILE", line)
    line = re.sub(r"\d+(\.\d+)?", "0", line)
    return re.sub(r"\s+", " ", line).strip()


def same_shape(shown: str, real: str) -> bool:
    """Whether they differ only in numbers, ids, paths and blanks; `...` stands for any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n"
        for line in map(_shape, shown.strip("\n").splitlines())
    )
    return re.fullmatch(pattern, "".join(f"{_shape(x)}\n" for x in real.splitlines())) is not None
