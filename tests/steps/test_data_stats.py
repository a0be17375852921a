"""Figures of a built data set, against the same figures counted the slow and plain way."""

import json
from collections import Counter
from math import ceil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.distribution import PERCENTILES, Distribution
from medcli.core.errors import DataError, UsageError
from medcli.core.manifest import MANIFEST
from medcli.core.model_ref import ModelRef
from medcli.core.record import Conversation, Document, Message, Preference, Question, kind_of, to_row
from medcli.core.report import Silent
from medcli.steps.data_stats import as_table, commercial_use, duplicates, leading, stats
from medcli.steps.refused_rows import refused_examples
from tests.building import alpaca, made

MANIFEST_TEXT = """
name = "{name}"
kind = "{kind}"
importer = "pairs"
licence = "unknown"
med = "0.0.0"
key = "0123456789abcdef"
counts = {{ read = {read}, kept = {kept}, refused = {refused}, train = {train}, valid = {valid}, test = {test} }}
refused = {{ {reasons} }}
changed = {{ "masked: name" = 12, "masked: mobile number" = 3, "full-width digits" = 1044 }}
files = {{ train = "aa", valid = "bb", test = "cc" }}
settings = {{ valid = 0.05, test = 0.05, seed = 7, phi = "mask", advertising = false }}
inputs = [{{ file = "门诊.csv", sha256 = "0123abcd", rows = {read} }}]
"""


def written(path, records, refused=()):
    """A data set as a build leaves it; `records`: split -> records, `refused`: (file, line, reason, text)."""
    path.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        lines = [json.dumps(to_row(record), ensure_ascii=False) + "\n" for record in records.get(split, ())]
        (path / f"{split}.jsonl").write_text("".join(lines), "utf-8")
    keys = ("file", "line", "reason", "text")
    rows = [json.dumps(dict(zip(keys, row, strict=True)), ensure_ascii=False) + "\n" for row in refused]
    (path / "refused.jsonl").write_text("".join(rows), "utf-8")
    reasons = Counter(reason.partition(": ")[0] for _, _, reason, _ in refused)
    counts = {split: len(records.get(split, ())) for split in SPLITS}
    kept = sum(counts.values())
    first = next((record for split in SPLITS for record in records.get(split, ())), None)
    text = MANIFEST_TEXT.format(
        name=path.name,
        kind=kind_of(first) if first else "conversation",
        read=kept + len(refused),
        kept=kept,
        refused=len(refused),
        reasons=", ".join(f"{json.dumps(reason, ensure_ascii=False)} = {count}" for reason, count in reasons.items()),
        **counts,
    )
    (path / MANIFEST).write_text(text, "utf-8")
    return DatasetFolder(path)


texts = st.text("高血压糖尿病ab1，。 \n", max_size=30)
exchanges = st.lists(st.tuples(texts, texts.filter(bool)), min_size=1, max_size=4)


@st.composite
def conversations(draw):
    turns = [Message(role="system", content="你是医生")] if draw(st.booleans()) else []
    for asked, answered in draw(exchanges):
        turns += [Message(role="user", content=asked), Message(role="assistant", content=answered)]
    meta = draw(st.sampled_from([{}, {"department": "内科"}, {"department": "外科", "disease": "高血压"}]))
    return Conversation(id="c", messages=tuple(turns), source=draw(st.sampled_from("甲乙")), meta=meta)


sets = st.fixed_dictionaries({split: st.lists(conversations(), max_size=8) for split in SPLITS})


def whole(record):
    return sum(len(message.content) for message in record.messages)


def answered(messages):
    return sum(len(message.content) for message in messages if message.role == "assistant")


def kept_at(record, length):
    """What training keeps of a conversation's answers, found by trying."""
    if whole(record) <= length:
        return record.messages
    system = [message for message in record.messages if message.role == "system"]
    turns = [message for message in record.messages if message.role != "system"]
    for start in range(2, len(turns), 2):
        rest = [*system, *turns[start:]]
        if sum(len(message.content) for message in rest) <= length:
            return rest
    return []


def nearest_rank(numbers, percent):
    return sorted(numbers)[max(1, ceil(percent * len(numbers) / 100)) - 1]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(records=sets, length=st.integers(1, 120))
def test_figures_equal_a_plain_count(tmp_path, records, length):
    figures = stats(written(tmp_path / "set", records), max_length=length)
    every = [record for split in SPLITS for record in records[split]]
    for part in figures.splits:
        mine = records[part.split]
        assert part.records == len(mine)
        assert part.turns.counts == Counter(sum(m.role == "assistant" for m in record.messages) for record in mine)
        lengths = [whole(record) for record in mine]
        assert part.characters.counts == Counter(lengths)
        assert part.characters.percentiles == ({p: nearest_rank(lengths, p) for p in PERCENTILES} if mine else {})
    assert figures.characters.total == sum(map(whole, every))
    assert figures.sources == Counter(record.source for record in every)
    departments = Counter(record.meta.get("department", "") for record in every)
    assert figures.departments == (departments if set(departments) != {""} else {})
    letters = [[c for m in record.messages for c in m.content if c.isalpha()] for record in every]
    han = [sum(not c.isascii() for c in mine) for mine in letters]
    assert figures.languages == {
        "mostly Han": sum(2 * n >= len(mine) > 0 for n, mine in zip(han, letters, strict=True)),
        "some Han": sum(0 < 2 * n < len(mine) for n, mine in zip(han, letters, strict=True)),
        "no Han": han.count(0),
    }
    assert figures.han == pytest.approx(sum(han) / max(1, sum(map(len, letters))))
    rest = [kept_at(record, length) for record in every]
    cut = figures.cut
    assert cut.records == len(every)
    assert cut.unanswered == rest.count([])
    assert cut.shortened == sum(0 < len(left) < len(record.messages) for left, record in zip(rest, every, strict=True))
    assert cut.answers == sum(answered(record.messages) for record in every)
    assert cut.lost == cut.answers - sum(map(answered, rest))


@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=50))
def test_bins_hold_every_number_once_and_lie_side_by_side(numbers):
    spread = Distribution(counts=Counter(numbers))
    bins = spread.bins
    assert sum(part.count for part in bins) == len(numbers)
    assert all(part.count == sum(part.low <= n <= part.high for n in numbers) for part in bins)
    assert all(before.high + 1 == after.low for before, after in zip(bins, bins[1:], strict=False))
    assert bins[0].count
    assert bins[-1].count
    assert len(bins) < 45
    assert {p: nearest_rank(numbers, p) for p in PERCENTILES} == spread.percentiles


def test_nothing_has_neither_percentiles_nor_bins():
    assert Distribution().percentiles == {}
    assert Distribution().bins == []


def test_tokens_are_those_that_training_sees(tmp_path, project, tiny_folder):
    from medcli.engine.encode import Losses, encode, encode_all
    from medcli.engine.load import load_tokenizer

    turns = [(f"第{n}问：头痛怎么办？", "注意休息，多喝水。" * n) for n in range(1, 6)]
    messages = [m for q, a in turns for m in (Message(role="user", content=q), Message(role="assistant", content=a))]
    records = [Conversation(id=str(n), messages=tuple(messages[: 2 * n]), source="s") for n in range(1, 6)]
    records.append(
        Conversation(id="x", messages=(messages[0], Message(role="assistant", content="休息" * 200)), source="s")
    )
    tokenizer, template = load_tokenizer(ModelRef(base=str(tiny_folder)), Silent())
    examples = encode([template.render(record.messages) for record in records], tokenizer)
    losses = Losses()
    fitting = list(encode_all(records, template, tokenizer, max_length=100, losses=losses))
    assert losses.shortened
    assert losses.too_long

    figures = stats(written(tmp_path / "set", {"train": records}), tokens=str(tiny_folder), max_length=100)
    assert figures.tokens.counts == Counter(len(example.ids) for example in examples)
    assert figures.model == tiny_folder.name
    assert (figures.cut.unit, figures.cut.shortened, figures.cut.unanswered) == (
        "tokens",
        losses.shortened,
        losses.too_long,
    )
    learnt = sum(int(example.trained.sum()) for example in examples)
    assert figures.cut.lost == learnt - sum(int(example.trained.sum()) for example in fitting)


OTHERS = {
    "preference": Preference(
        id="p", prompt=(Message(role="user", content="头痛"),), chosen="休息，多喝水。", rejected="不管", source="s"
    ),
    "document": Document(id="d", text="高血压的诊断", source="s"),
    "question": Question(id="q", stem="首选哪项？", choices=("甲", "乙丙"), answer="B", subject="内科", source="s"),
}


@pytest.mark.parametrize(("kind", "characters"), [("preference", 9), ("document", 6), ("question", 9)])
def test_every_kind_has_lengths(tmp_path, project, tiny_folder, kind, characters):
    dataset = written(tmp_path / "set", {"train": [OTHERS[kind]]})
    figures = stats(dataset, tokens=str(tiny_folder))
    assert figures.characters.counts == {characters: 1}
    assert figures.tokens.count == 1
    with pytest.raises(UsageError, match=f"holds {kind}s"):
        stats(dataset, max_length=10)


def test_examples_are_few_short_and_masked(tmp_path):
    refused = [("a.csv", line, "empty answer", f"第{line}行" + "长" * 300) for line in range(1, 9)]
    refused.append(("b.jsonl", 3, "not JSON: line 1", r'{"q": "我叫\u738b\u5c0f\u660e，电话１３８１２３４５６７８'))
    examples = refused_examples(written(tmp_path / "set", {}, refused))
    assert [row.line for row in examples["empty answer"]] == [1, 2, 3, 4, 5]
    assert all(len(row.text) == 201 and row.text.endswith("…") for row in examples["empty answer"])
    (row,) = examples["not JSON"]
    assert (row.file, row.line, row.reason) == ("b.jsonl", 3, "not JSON: line 1")
    assert "电话[" in row.text
    assert not {"小明", "1381", "１３８１", "5678"} & {
        row.text[i : i + n] for n in (2, 4) for i in range(len(row.text))
    }


def test_a_damaged_account_of_refusals_is_named_with_its_line(tmp_path):
    dataset = written(tmp_path / "set", {}, [("a.csv", 1, "empty answer", "x")] * 3)
    dataset.file("refused").write_text('{"file": "a.csv"}\n', "utf-8")
    with pytest.raises(DataError, match=r"refused\.jsonl:1: not a refused row"):
        refused_examples(dataset)


def test_what_a_build_refuses_as_repeated_is_counted_as_such(project):
    raw = project / "raw"
    raw.mkdir()
    alpaca(raw / "test.jsonl", 5)
    source = alpaca(raw / "train.jsonl", 30, start=5)
    said = "低盐饮食，按时服药，每天早晚各量一次血压并记下来，两周后带着记录来复诊，如有头晕胸闷随时就医。"
    rows = [("血压高要注意什么？", said), ("血压高要注意什么？", said), ("血压高要注意什么？", said + "好")]
    with source.open("a", encoding="utf-8") as file:
        for asked, answer in [*rows, ("问题3：血压高怎么办？", "另一个回答")]:
            file.write(json.dumps({"instruction": asked, "input": "", "output": answer}, ensure_ascii=False) + "\n")
    dataset = made(raw, name="mine")
    assert duplicates(dataset) == {"exact duplicates": 1, "near-duplicates": 1, "question in another split": 1}


def test_commercial_use_is_that_of_the_set_known_by_name(tmp_path):
    dataset = written(tmp_path / "toyhom", {})
    assert commercial_use(dataset) == "unknown"  # a file of the user's own that is called so
    manifest = dataset.path / MANIFEST
    manifest.write_text('known = "toyhom"\n' + manifest.read_text("utf-8"), "utf-8")
    assert commercial_use(DatasetFolder(dataset.path)) == "yes"


def test_the_table_is_json_and_leaves_nothing_out(tmp_path):
    record = Conversation(id="c", messages=OTHERS["preference"].prompt, source="s", meta={"department": "内科"})
    dataset = written(tmp_path / "set", {"train": [record]}, [("a.csv", 2, "empty answer", "x")])
    table = json.loads(json.dumps(as_table(dataset, stats(dataset, max_length=1))))
    assert table["changed"]["masked: name"] == 12
    assert table["departments"] == {"内科": 1}
    assert table["cut"]["unanswered"] == 1
    assert table["examples"]["empty answer"][0]["line"] == 2


def test_the_first_are_named_and_the_rest_summed():
    assert leading({"a": 5, "b": 3, "c": 1}, 1) == ({"a": 5}, 4)
