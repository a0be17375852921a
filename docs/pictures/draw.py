"""Draw the documentation's terminal pictures from real runs: `python docs/pictures/draw.py NAME...`.

Each command of `PICTURES` is run in a pseudo-terminal, in the working folder, and what stands on the screen at its end
becomes `NAME.svg`, with the words of `--language zh` `NAME.zh.svg`. The pictures build on each other: draw `quickstart`
first, in an empty folder. The files hold text, not outlines, and fetch no fonts.
"""

import argparse
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from pyte.screens import Char
from wcwidth import wcwidth

HERE = Path(__file__).parent
CELL = (8.4, 19.0)  # width and height of a character, in pixels
MARGIN = 14.0  # pixels around the text
LONGEST_WAIT = 900  # seconds
FONTS = "'DejaVu Sans Mono', Menlo, Consolas, 'Noto Sans Mono CJK SC', 'PingFang SC', 'Microsoft YaHei', monospace"
INK, PAPER = "#d5dae2", "#1b1f27"
COLOURS = {
    "red": "#f2777a", "green": "#8fd07d", "brown": "#f0c674", "blue": "#7aa6da", "magenta": "#d79be0",
    "cyan": "#6fc7d4", "white": "#f2f4f8", "brightblack": "#8b94a3", "brightred": "#ff8f92",
    "brightgreen": "#a5e394", "brightblue": "#95bdf0", "brightcyan": "#8bdde8", "brightwhite": "#ffffff",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A command line, and what a person types: each text when the cursor stands in a line that begins so."""

    command: str
    typed: tuple[tuple[str, str], ...] = ()
    columns: int = 100
    rows: int = 60


CHAT = ("偏头痛有哪些症状？", "/clear", "原发性高血压有哪些症状？", "/clear", "登革热有哪些症状？", "/exit")
PICTURES = {
    "quickstart": Picture(command="med quickstart", rows=68),
    "chat": Picture(
        command="med chat quickstart --temperature 0",
        typed=tuple((r"❯ +$", words) for words in CHAT),
    ),
    "tokens": Picture(command="med data show knowledge 7 --tokens med-tiny"),
    "status": Picture(command="med"),
    "doctor": Picture(command="med doctor"),
    "init": Picture(
        command="med init --dataset consultations.csv --model med-tiny", typed=(*[(r"\? ", "")] * 7, (r"\? ", "n"))
    ),
}


def main() -> None:
    """Draw the named pictures, or all, into this file's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", default=list(PICTURES), choices=list(PICTURES))
    parser.add_argument("--language", choices=["en", "zh"], default="en")
    given = parser.parse_args()
    for name in given.name:
        lines = screen_of(PICTURES[name], given.language)
        ending = ".svg" if given.language == "en" else f".{given.language}.svg"
        (HERE / f"{name}{ending}").write_text(drawn(lines, PICTURES[name].columns), "utf-8")


def screen_of(picture: Picture, language: str) -> list[list[Char]]:
    """The rows of the screen when the command has ended, its command line above them, no empty ones below."""
    screen = pyte.Screen(picture.columns, picture.rows)
    screen.set_mode(pyte.modes.LNM)
    stream = pyte.Stream(screen)
    stream.feed(f"\x1b[1;32m$\x1b[0m \x1b[1m{picture.command}\x1b[0m\n")
    program = pexpect.spawn(
        "/bin/sh",
        ["-c", f"MED_LANG={language} TERM=xterm PROMPT_TOOLKIT_COLOR_DEPTH=DEPTH_4_BIT exec {picture.command}"],
        dimensions=(picture.rows, picture.columns),
        encoding="utf-8",
        timeout=LONGEST_WAIT,
    )
    screen.write_process_input = program.send  # programs ask the terminal where its cursor is
    with suppress(pexpect.EOF):
        for line, answer in picture.typed:
            while not re.match(line, screen.display[screen.cursor.y]):
                _show(program, stream)
            program.send(answer + "\r")
            _show(program, stream)  # its echo
        while True:
            _show(program, stream)
    program.close()
    if program.exitstatus:
        raise SystemExit(f"{picture.command} ended with {program.exitstatus}:\n" + "\n".join(screen.display))
    rows = [[screen.buffer[row][column] for column in range(picture.columns)] for row in range(picture.rows)]
    while not "".join(cell.data for cell in rows[-1]).strip():
        rows.pop()
    return rows


def _show(program: "pexpect.spawn[str]", stream: pyte.Stream) -> None:
    """Put what the program says next on the screen, up to where it falls silent for a moment."""
    said = program.read_nonblocking(1, LONGEST_WAIT)
    with suppress(pexpect.TIMEOUT, pexpect.EOF):
        while True:
            said += program.read_nonblocking(10_000, 0.3)
    # pyte knows no dim letters; grey ones look the same.
    stream.feed(re.sub(r"\x1b\[([0-9;]*;)?2(?=[;m])", "\x1b[\\g<1>90", said))


def drawn(rows: list[list[Char]], columns: int) -> str:
    """The SVG of these rows."""
    width, height = CELL[0] * columns + 2 * MARGIN, CELL[1] * len(rows) + 2 * MARGIN
    body = "\n".join(part for row, cells in enumerate(rows) for part in _parts(row, cells))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-size="14" '
        f'font-family="{FONTS}" fill="{INK}">\n'
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>\n{body}\n</svg>\n'
    )


def _parts(row: int, cells: list[Char]) -> Iterator[str]:
    """A text for each stretch of one style and one width of character: wide ones stand two cells apart."""
    placed = [(column, cell) for column, cell in enumerate(cells) if cell.data]
    for (style, wide), run in groupby(placed, key=lambda item: (_style(item[1]), wcwidth(item[1].data[0]) == 2)):
        stretch = list(run)
        text = "".join(cell.data for _, cell in stretch)
        if not text.strip():
            continue
        lead, text = len(text) - len(text.lstrip()), text.strip()
        x, y = MARGIN + CELL[0] * (stretch[0][0] + lead), MARGIN + CELL[1] * row + 14
        length = CELL[0] * len(text) * (2 if wide else 1)
        words = escape(text).replace(" ", "\N{NO-BREAK SPACE}")
        yield f'<text x="{x:.1f}" y="{y:.0f}" textLength="{length:.1f}"{style}>{words}</text>'


def _style(cell: Char) -> str:
    colour = COLOURS.get(cell.fg, INK)
    return (f' fill="{colour}"' if colour != INK else "") + (' font-weight="bold"' if cell.bold else "")


if __name__ == "__main__":
    main()
