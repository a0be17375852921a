"""Converting: what other tools read is what was built, and our importers read it back the same."""

import json
from hashlib import sha1
from pathlib import Path

import pytest

from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.errors import DataError, UnknownNameError, UsageError
from medcli.core.record import Conversation, Document, Message, Preference, Question, to_row
from medcli.core.report import Silent
from medcli.steps.convert_data import TARGETS, convert
from tests.building import made, rows
from tests.conftest import shared

SYSTEM = Message(role="system", content="你是医疗助手。")


def turns(number, count, system=False):
    talk = []
    for turn in range(count):
        talk.append(Message(role="user", content=f"第{number}位病人第{turn + 1}问：夜里咳嗽\n要紧吗？"))
        talk.append(Message(role="assistant", content=f"第{number}位：先观察{turn + 1}天，“加重”就去医院。"))
    return (SYSTEM, *talk) if system else tuple(talk)


def record_of(kind, number):
    """Every third has a system message, every second several turns."""
    ids = {"id": f"r-{number}", "source": "mine"}
    messages = turns(number, 1 + number % 2, system=number % 3 == 0)
    match kind:
        case "conversation":
            return Conversation(messages=messages, **ids)
        case "preference":
            return Preference(prompt=messages[:-1], chosen=f"多喝水{number}。", rejected="不知道。", **ids)
        case "document":
            return Document(text=f"咳嗽{number}天以上应当就诊。\n\n查体\t见肺部啰音。", **ids)
        case "question":
            choices = (f"甲{number}", "乙", "丙")
            return Question(stem=f"第{number}题？", choices=choices, answer="AC", subject="内科", **ids)


@pytest.fixture
def built(project):
    """A function that gives a finished data set of a kind, all three splits filled."""

    def build(kind, count=40):
        path = project / "data" / f"my-{kind}"
        path.mkdir(parents=True)
        placed = {split: [] for split in SPLITS}
        for number in range(count):
            split = SPLITS[number % 5] if number % 5 in (1, 2) else "train"
            placed[split].append(json.dumps(to_row(record_of(kind, number)), ensure_ascii=False) + "\n")
        for split, found in placed.items():
            (path / f"{split}.jsonl").write_text("".join(found), "utf-8")
        lines = [f"{split} = {len(found)}" for split, found in placed.items()]
        head = f'name = "{path.name}"\nkind = "{kind}"\nlicence = "CC0-1.0"\nkey = "k"\n[counts]\n'
        (path / "manifest.toml").write_text(head + "\n".join(lines), "utf-8")
        return DatasetFolder(path)

    return build


def content(record):
    """A record without what other tools have no place for."""
    row = to_row(record)
    return json.dumps({key: row[key] for key in row if key not in ("id", "source", "meta")}, ensure_ascii=False)


def contents(dataset, split):
    return sorted(content(record) for record in dataset.records(split))


EVERY = [(target, kind) for target, kinds in TARGETS.items() for kind in kinds]


@pytest.mark.parametrize(("target", "kind"), [pair for pair in EVERY if pair[0] != "llamafactory"])
def test_built_again_it_is_the_same(built, tmp_path, target, kind):
    first = built(kind)
    done = convert(first, target, tmp_path / "out", Silent())
    assert done.counts == {"train": 24, "valid": 8, "test": 8}
    again = made(tmp_path / "out", name="again", near=1.0, max_chars=10**6)
    assert again.kind == kind
    assert again.manifest["counts"]["refused"] == 0
    for split in SPLITS:
        assert contents(again, split) == contents(first, split)


@pytest.mark.parametrize("kind", TARGETS["llamafactory"])
def test_llamafactory_folder_is_read_back_by_its_registry(built, tmp_path, kind):
    first = built(kind)
    convert(first, "llamafactory", tmp_path / "out", Silent())
    registry = json.loads((tmp_path / "out/dataset_info.json").read_text("utf-8"))
    assert sorted(registry) == [f"my-{kind}", f"my-{kind}-test", f"my-{kind}-valid"]
    for split, name in zip(SPLITS, (f"my-{kind}", f"my-{kind}-valid", f"my-{kind}-test"), strict=True):
        again = made(name, raw=tmp_path / "out", name=f"again-{split}", valid=0, test=0, near=1.0)
        assert again.manifest["counts"]["refused"] == 0
        assert contents(again, "train") == contents(first, split)


def test_llamafactory_registry_says_columns_tags_and_hash(built, tmp_path):
    convert(built("preference"), "llamafactory", tmp_path / "out", Silent())
    entry = json.loads((tmp_path / "out/dataset_info.json").read_text("utf-8"))["my-preference"]
    assert entry == {
        "file_name": "train.jsonl",
        "file_sha1": sha1((tmp_path / "out/train.jsonl").read_bytes(), usedforsecurity=False).hexdigest(),
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {"messages": "conversations", "system": "system", "chosen": "chosen", "rejected": "rejected"},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
                 "system_tag": "system"},
    }  # fmt: skip
    with (tmp_path / "out/train.jsonl").open("a", encoding="utf-8") as file:
        file.write("{}\n")
    with pytest.raises(DataError, match="SHA-1"):
        made("my-preference", raw=tmp_path / "out", name="changed")


def first_row(folder):
    return rows(DatasetFolder(folder), "train")[0]


def test_official_shapes_of_conversations(built, tmp_path):
    """The first record has a system message and one turn."""
    dataset = built("conversation")
    question, answer = (m.content for m in turns(0, 1))
    shown = {name: convert(dataset, name, tmp_path / name, Silent()).path for name in TARGETS}
    told = {"messages": [{"role": "system", "content": SYSTEM.content}, {"role": "user", "content": question},
                         {"role": "assistant", "content": answer}]}  # fmt: skip
    assert first_row(shown["openai"]) == first_row(shown["messages"]) == told
    said = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    assert first_row(shown["sharegpt"]) == {"conversations": said, "system": SYSTEM.content}
    assert first_row(shown["sharegpt"]) == first_row(shown["llamafactory"])
    assert first_row(shown["alpaca"]) == {
        "instruction": question, "input": "", "output": answer, "history": [], "system": SYSTEM.content,
    }  # fmt: skip


def test_official_shapes_of_preferences(built, tmp_path):
    dataset = built("preference")
    shown = {name: rows(DatasetFolder(convert(dataset, name, tmp_path / name, Silent()).path), "train")[1]
             for name in TARGETS}  # fmt: skip
    prompt = [{"role": m.role, "content": m.content} for m in turns(3, 2, system=True)[:-1]]
    assert shown["openai"] == {
        "input": {"messages": prompt},
        "preferred_output": [{"role": "assistant", "content": "多喝水3。"}],
        "non_preferred_output": [{"role": "assistant", "content": "不知道。"}],
    }
    assert set(shown["messages"]) == {"prompt", "chosen", "rejected"}
    assert shown["sharegpt"]["chosen"] == {"from": "gpt", "value": "多喝水3。"}
    assert [turn["from"] for turn in shown["sharegpt"]["conversations"]] == ["human", "gpt", "human"]
    assert shown["alpaca"]["history"] == [[prompt[1]["content"], prompt[2]["content"]]]
    assert (shown["alpaca"]["chosen"], shown["alpaca"]["system"]) == ("多喝水3。", SYSTEM.content)


@pytest.mark.parametrize(
    ("target", "kind"),
    [(target, kind) for target in TARGETS for kind in TARGETS["messages"] if kind not in TARGETS[target]],
)
def test_what_has_no_place_is_refused_with_what_works(built, tmp_path, target, kind):
    with pytest.raises(DataError, match=f"no place for {kind}s") as caught:
        convert(built(kind), target, tmp_path / "out", Silent())
    assert "--to messages" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_turns_a_target_cannot_hold_are_named_with_their_line(built, tmp_path):
    dataset = built("conversation")
    path = dataset.file("valid")
    lines = path.read_text("utf-8").split("\n")
    row = json.loads(lines[2])
    row["messages"].pop()
    lines[2] = json.dumps(row, ensure_ascii=False)
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(DataError, match=r"valid\.jsonl:3: .*end with the assistant"):
        convert(dataset, "openai", tmp_path / "out", Silent())
    assert list(tmp_path.glob("out*")) + list(tmp_path.glob(".out*")) == []


def test_a_folder_that_is_there_stays(built, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists"):
        convert(built("document"), "messages", tmp_path / "out", Silent())
    with pytest.raises(UnknownNameError, match="shareGPT") as caught:
        convert(built("question"), "shareGPT", tmp_path / "new", Silent())
    assert "did you mean 'sharegpt'?" in caught.value.hint


def test_a_file_cut_short_is_found(built, tmp_path):
    dataset = built("document")
    lines = dataset.file("train").read_text("utf-8").split("\n")
    dataset.file("train").write_text("\n".join(lines[3:]), "utf-8")
    with pytest.raises(DataError, match="holds 21 records, its manifest says 24"):
        convert(dataset, "messages", tmp_path / "out", Silent())


def test_the_licence_goes_along(built, tmp_path):
    done = convert(built("conversation"), "openai", tmp_path / "out", Silent())
    assert done.licence == "CC0-1.0"
    assert "CC0-1.0" in (Path(done.path) / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "target"),
    [("medicalgpt/medical_sft_1K_format.jsonl", "alpaca"), ("medicalgpt/dpo_zh_500.jsonl", "openai"),
     ("medicalgpt/dpo_zh_500.jsonl", "alpaca"), ("medicalgpt/fever.txt", "messages")],
)  # fmt: skip
def test_real_data_comes_back(project, tmp_path, name, target):
    first = made(shared(name), phi="off", near=1.0)
    convert(first, target, tmp_path / "out", Silent())
    again = made(tmp_path / "out", name="again", phi="off", near=1.0)
    assert [contents(again, split) for split in SPLITS] == [contents(first, split) for split in SPLITS]
