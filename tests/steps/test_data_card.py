"""The data card: whole, by itself, safe to show, and the same after every rebuild."""

import re
import shlex
import shutil
from html.parser import HTMLParser

import pytest

from medcli.cli.options import settle
from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.distribution import Distribution
from medcli.core.manifest import MANIFEST
from medcli.core.record import Conversation, Document, Message
from medcli.steps import build_data
from medcli.steps.data_card import CARD, histogram, rebuild_command, write, write_card
from medcli.steps.data_stats import stats
from tests.building import alpaca, made
from tests.conftest import RAW
from tests.steps.test_data_stats import written

VOID = {"meta", "br", "link", "img"}


class Page(HTMLParser):
    """What a page holds; a tag that is closed by another one, or never, fails."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.values, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def dialogue(number, answers=1, department="内科"):
    turns = [Message(role=role, content=f"第{number}句" * number) for role in ("user", "assistant")] * answers
    return Conversation(id=str(number), messages=tuple(turns), source="门诊", meta={"department": department})


RECORDS = {
    "train": [dialogue(n, answers=n % 3 + 1) for n in range(1, 40)],
    "valid": [dialogue(2)],
    "test": [dialogue(3, department="外科")],
}
EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"


@pytest.fixture
def dataset(tmp_path):
    refused = [
        ("门诊.csv", 17, "empty answer", f"我叫王小明，电话13812345678 {EVIL}"),
        ("门诊.csv", 18, "near-duplicate: of a-1", "高血压怎么办"),
    ]
    records = RECORDS | {"valid": [dialogue(2, department=EVIL)]}
    return written(tmp_path / "clinic", records, refused)


def card_of(dataset, **given):
    path = dataset.path / "card.html"
    write(dataset, stats(dataset, **given), path)
    return path.read_text("utf-8")


def test_it_says_all_that_is_known(dataset):
    page = Page(card_of(dataset, max_length=40))
    for said in (
        "clinic",
        "41 conversations for training",
        "43 rows read = 41 kept + 2 refused",
        "empty answer 1 50.0 %",
        "门诊.csv:17",
        "门诊.csv:18 · of a-1",
        "name 12",
        "mobile number 3",
        "full-width digits 1,044",
        "near-duplicates 1",
        "内科 39",
        "At a length of 40 characters",
        "--no-advertising",
        "0123abcd",
        "Made by med 0.0.0",
        "unknown: ask the owners",
    ):
        assert said in page.text
    assert page.tags.count("figure") == 2  # lengths and turns
    assert rebuild_command(dataset) in page.text


def test_it_needs_nothing_else_and_runs_nothing(dataset):
    text = card_of(dataset)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe", "object", "a"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import|\bsrc=", text.replace("src=x", ""))
    assert not any(value.startswith(("http", "javascript", "data:")) for value in page.values)


def test_text_of_the_data_stays_text_and_identifiers_stay_away(dataset):
    text = card_of(dataset)
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    assert "13812345678" not in text
    assert "王小明" not in text


def test_the_home_page_of_a_known_set_is_text(tmp_path):
    known = written(tmp_path / "toyhom", RECORDS)
    manifest = known.path / MANIFEST
    manifest.write_text('known = "toyhom"\n' + manifest.read_text("utf-8"), "utf-8")
    page = Page(card_of(DatasetFolder(known.path)))
    assert "https://github.com/" in page.text
    assert "a" not in page.tags
    assert "Commercial use yes" in page.text


def test_a_rebuild_gives_the_same_bytes_wherever_it_is_made(project, tmp_path, monkeypatch):
    source = alpaca(project / "mine.jsonl", 30)
    first = made(source)
    card = (first.path / CARD).read_bytes()
    assert Page(card.decode("utf-8")).tags
    assert str(tmp_path).encode() not in card
    shutil.rmtree(first.path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert (made(shutil.copy(source, elsewhere)).path / CARD).read_bytes() == card
    assert write_card(DatasetFolder(elsewhere / "data" / "mine")).read_bytes() == card


@pytest.mark.parametrize("name", ["preference/dpo.jsonl", "text/paragraphs.txt", "knowledge"])
def test_every_kind_has_a_card(project, name):
    dataset = made(RAW / name if "/" in name else name, limit=50)
    assert "Every record holds" in Page((dataset.path / CARD).read_text("utf-8")).text


def test_an_empty_split_and_a_set_without_refusals(tmp_path):
    page = Page(card_of(written(tmp_path / "one", {"train": [Document(id="d", text="高血压", source="s")]})))
    assert "1 document for" in page.text
    assert "No row was refused" in page.text
    assert "valid 0 – – – –" in page.text


@pytest.mark.parametrize(
    ("phi", "said"),
    [("off", "were not looked for"), ("mask", "no identifier was found"), ("drop", "no identifier was left")],
)
def test_it_says_whether_anyone_looked_for_identifiers(tmp_path, phi, said):
    manifest = written(tmp_path / "set", RECORDS).path / MANIFEST
    text = manifest.read_text("utf-8").replace('phi = "mask"', f'phi = "{phi}"')
    manifest.write_text(re.sub(r"^changed = .*$", "changed = {}", text, flags=re.MULTILINE), "utf-8")
    assert said in Page(card_of(DatasetFolder(manifest.parent))).text


def test_the_command_builds_the_same_again(project, med):
    source = alpaca(project / "我的 表.jsonl", 30)
    flags = {"name": "mine", "valid": 0.2, "advertising": False, "phi": "report", "min_chars": 2, "seed": 7}
    dataset = made(source, **flags)
    hashes = [dataset.sha256(split) for split in SPLITS]
    command = shlex.split(rebuild_command(dataset))
    shutil.rmtree(dataset.path)
    assert med(*command[1:]).exit_code == 0
    assert [DatasetFolder(dataset.path).sha256(split) for split in SPLITS] == hashes


def test_the_command_of_a_known_set_names_it(project):
    assert rebuild_command(made("knowledge", limit=20)) == "med data build knowledge --limit 20"
    dataset = made("cmedqa2", raw=RAW / "cmedqa2")
    assert rebuild_command(dataset) == "med data build cmedqa2 --raw DIR"


def test_every_setting_shown_is_one_that_can_be_typed(project):
    dataset = made(alpaca(project / "mine.jsonl", 30))
    known = {name for name, _, _ in settle(BuildSettings, build_data.SECTION, {}).rows()}
    assert set(dataset.manifest["settings"]) <= known


@pytest.mark.parametrize(
    ("largest", "lines"), [(1, (0, 1)), (4, (0, 1, 2, 3, 4)), (5, (0, 2, 4, 6)), (1234, (0, 500, 1000, 1500))]
)
def test_lines_behind_bars_are_round_and_reach_the_top(largest, lines):
    assert tuple(histogram(Distribution(counts={3: largest, 8: 1})).lines) == lines
