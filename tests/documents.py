"""The README, the pages of docs/ and what stands in them: code blocks, tables, command lines, in both languages."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md", ROOT / "README.zh-CN.md")
# Name of each page -> (English file, Chinese file).
PAGES = {"README": README} | {path.stem: (path, DOCS / "zh" / path.name) for path in sorted((DOCS / "en").glob("*.md"))}
FILES = [path for pair in PAGES.values() for path in pair]

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OPERATORS = ("&&", "|", "<", ">")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of `med` in a line: the variables set for it, its words after `med`, the files of its two pipes."""

    line: str
    variables: tuple[str, ...]
    words: tuple[str, ...]
    reads: str = ""
    writes: str = ""


def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The contents of the code blocks marked with `language`."""
    return [content for name, content in BLOCK.findall(text) if name == language]


def commands(text: str) -> list[list[str]]:
    """The words of every command line in order, remarks taken away; of a session, the lines that were typed."""
    lines = []
    for name, content in BLOCK.findall(text):
        if name == "sh":
            lines += content.splitlines()
        elif name == "console":
            lines += [line.removeprefix("$ ") for line in content.splitlines() if line.startswith("$ ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def calls(text: str) -> list[Call]:
    """Every call of `med`, in the order in which a reader would make them."""
    found = []
    for words in commands(text):
        line, before = shlex.join(words), []
        while words:
            end = next((i for i, word in enumerate(words) if word in _OPERATORS), len(words))
            call, rest = words[:end], words[end:]
            start = next((i for i, word in enumerate(call) if "=" not in word), len(call))
            if call[start : start + 1] == ["med"]:
                pipes = dict(zip(rest[::2], rest[1::2], strict=False)) if rest[:1] != ["&&"] else {}
                reads = pipes.get("<", before[-1] if before[:1] == ["cat"] else "")
                found.append(
                    Call(
                        line=line, variables=tuple(call[:start]), words=tuple(call[start + 1 :]), reads=reads,
                        writes=pipes.get(">", ""),
                    )
                )  # fmt: skip
            before, words = call, rest[1:]
    return found


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table's rows, without its heading."""
    found = re.findall(r"^(?:\|.*\|\n)+", BLOCK.sub("", text), re.MULTILINE)
    return [[_cells(line) for line in table.splitlines()[2:]] for table in found]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
