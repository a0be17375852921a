"""The pictures of the documentation: what a terminal shows, drawn as text, every character in its cell."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from tests.documents import DOCS


@pytest.fixture(scope="module")
def draw():
    """The script as a module, which no package holds."""
    pytest.importorskip("pyte")
    spec = spec_from_file_location("draw", DOCS / "pictures/draw.py")
    module = module_from_spec(spec)
    sys.modules["draw"] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["draw"]


def drawing(draw, command: str, **more: object) -> str:
    picture = draw.Picture(command=command, columns=80, rows=10, **more)
    return draw.drawn(draw.screen_of(picture, "en"), 80)


def texts(svg: str) -> list[tuple[float, float, str, str]]:
    """(x, length, style, words) of each piece of text."""
    pieces = re.findall(r'<text x="([\d.]+)" y="\d+" textLength="([\d.]+)"(.*?)>(.*?)</text>', svg)
    return [(float(x), float(length), style.strip(), words) for x, length, style, words in pieces]


def test_wide_characters_take_two_cells(draw):
    pieces = texts(drawing(draw, "printf '头痛 ok'"))
    cell = draw.CELL[0]
    assert pieces[-2] == (draw.MARGIN, 4 * cell, "", "头痛")
    assert pieces[-1] == (pytest.approx(draw.MARGIN + 5 * cell), pytest.approx(2 * cell), "", "ok")


def test_colours_and_signs_of_markup(draw):
    green, grey = (f'fill="{draw.COLOURS[name]}"' for name in ("green", "brightblack"))
    svg = drawing(draw, r"printf '\033[1;32m<b>\033[0m \033[2mdim\033[0m'")
    assert texts(svg)[-2:] == [
        (draw.MARGIN, pytest.approx(3 * draw.CELL[0]), f'{green} font-weight="bold"', "&lt;b&gt;"),
        (pytest.approx(draw.MARGIN + 4 * draw.CELL[0]), pytest.approx(3 * draw.CELL[0]), grey, "dim"),
    ]


def test_what_is_overwritten_is_not_seen_and_what_is_typed_is(draw):
    script = r"""sh -c 'printf "50 %%\r100 %%\n? "; read answer; echo "so $answer"'"""
    words = [words for *_, words in texts(drawing(draw, script, typed=((r"\?", "yes"),)))]
    assert words[-3:] == ["100\N{NO-BREAK SPACE}%", "?\N{NO-BREAK SPACE}yes", "so\N{NO-BREAK SPACE}yes"]


def test_a_command_that_fails_is_no_picture(draw):
    with pytest.raises(SystemExit, match="ended with 3"):
        drawing(draw, "sh -c 'exit 3'")
