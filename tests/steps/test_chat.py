import json
from contextlib import suppress

import pytest

from medcli.core.errors import DataError, DeviceError, UsageError
from medcli.core.sampling_settings import sampling_of
from medcli.core.speaker import Answer, Sampling
from medcli.steps.chat import Dialogue, Settings


class FakeSpeaker:
    """Answers "甲", "乙", … in pieces of one character and remembers what it was asked."""

    def __init__(self, answer="多喝水。"):
        self.answer = answer
        self.asked = []
        self.closed = 0

    def reply(self, messages, sampling):
        self.asked.append(([m.content for m in messages], sampling.seed))
        try:
            for character in self.answer:
                if character == "!":
                    raise KeyboardInterrupt
                if character == "#":
                    raise DeviceError("out of memory")
                yield character
        finally:
            self.closed += 1

    def replies(self, prompts, sampling, advance):
        raise NotImplementedError


def dialogue_with(answer="多喝水。", system=""):
    speaker = FakeSpeaker(answer)
    return Dialogue(speaker, Sampling(temperature=0.7, seed=42), system), speaker


def turns(dialogue):
    return [(m.role, m.content) for m in dialogue.messages]


def test_the_model_sees_every_earlier_turn():
    dialogue, speaker = dialogue_with(system="你是医生")
    assert list(dialogue.ask("头痛")) == list("多喝水。")
    list(dialogue.ask("还痛"))
    assert speaker.asked == [(["你是医生", "头痛"], 42), (["你是医生", "头痛", "多喝水。", "还痛"], 42)]
    assert dialogue.turns == 2


def test_an_answer_closed_early_is_kept_and_the_model_stopped():
    dialogue, speaker = dialogue_with()
    answer = dialogue.ask("头痛")
    assert next(answer) + next(answer) == "多喝"
    assert not speaker.closed
    answer.close()
    assert turns(dialogue) == [("user", "头痛"), ("assistant", "多喝")]
    assert speaker.closed == 1


@pytest.mark.parametrize(("answer", "error"), [("多喝!水", KeyboardInterrupt), ("多喝#水", DeviceError)])
def test_what_was_said_before_an_interrupt_or_an_error_is_kept(answer, error):
    dialogue, _ = dialogue_with(answer)
    with pytest.raises(error):
        list(dialogue.ask("头痛"))
    assert turns(dialogue) == [("user", "头痛"), ("assistant", "多喝")]


@pytest.mark.parametrize("answer", ["!", "#", ""])
def test_a_question_without_a_word_of_answer_is_not_kept_but_can_be_retried(answer):
    dialogue, speaker = dialogue_with()
    list(dialogue.ask("头痛"))
    speaker.answer = answer
    with suppress(KeyboardInterrupt, DeviceError):
        list(dialogue.ask("发热"))
    assert turns(dialogue) == [("user", "头痛"), ("assistant", "多喝水。")]
    speaker.answer = "休息。"
    list(dialogue.retry())
    assert turns(dialogue)[2:] == [("user", "发热"), ("assistant", "休息。")]


def test_each_retry_has_a_seed_of_its_own_and_a_new_question_the_first_again():
    dialogue, speaker = dialogue_with()
    list(dialogue.ask("头痛"))
    list(dialogue.retry())
    list(dialogue.retry())
    list(dialogue.ask("发热"))
    assert [seed for _, seed in speaker.asked] == [42, 43, 44, 42]
    assert [m.content for m in dialogue.messages if m.role == "user"] == ["头痛", "发热"]


def test_undo_takes_back_one_question_at_a_time():
    dialogue, _ = dialogue_with(system="你是医生")
    list(dialogue.ask("头痛"))
    list(dialogue.ask("发热"))
    assert dialogue.undo() == "发热"
    assert dialogue.undo() == "头痛"
    assert turns(dialogue) == [("system", "你是医生")]
    for nothing_left in (dialogue.undo, lambda: list(dialogue.retry())):
        with pytest.raises(UsageError, match="nothing has been asked"):
            nothing_left()


def test_clear_keeps_the_system_message_and_instruct_replaces_it():
    dialogue, _ = dialogue_with(system="你是医生")
    list(dialogue.ask("头痛"))
    dialogue.instruct("你是护士")
    assert (dialogue.system, dialogue.turns) == ("你是护士", 1)
    dialogue.clear()
    assert turns(dialogue) == [("system", "你是护士")]
    dialogue.instruct("")
    assert turns(dialogue) == []


@pytest.mark.parametrize("system", ["", "你是\n医生"])
def test_a_saved_dialogue_loads_as_it_was(tmp_path, system):
    dialogue, _ = dialogue_with(answer='第一行\n"第二行"', system=system)
    path = tmp_path / "new" / "对话.json"
    dialogue.save(path)
    list(dialogue.ask("头痛"))
    dialogue.save(path)
    assert list(json.loads(path.read_text("utf-8"))) == ["messages"]
    other, _ = dialogue_with(system="另一个")
    other.load(path)
    assert other.messages == dialogue.messages


USER = '{"role": "user", "content": "头痛"}'
ASSISTANT = '{"role": "assistant", "content": "喝水"}'


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "Expecting value"),
        ('{"messages": [\n' + USER + "\n" + ASSISTANT + "]}", 3, "Expecting ',' delimiter"),
        ('[["头痛", "喝水"]]', 1, "not a saved dialogue"),
        ('{"history": [["头痛", "喝水"]]}', 1, "not a saved dialogue"),
        ('{"messages": [], "model": "x"}', 1, "not a saved dialogue"),
        ('{"messages": "x"}', 1, "not a saved dialogue"),
        ('{"messages":\n[["头痛", "喝水"]]}', 2, "message 1: not an object"),
        ('{"messages": [\n' + USER + ",\n{}]}", 3, "message 2: not an object"),
        (
            '{"messages": [\n' + USER + ',\n{"role": "assistant", "content": "水", "name": "x"}]}',
            3,
            "role and content",
        ),
        ('{"messages": [\n' + USER + ',\n\n{"role": "bot", "content": "水"}]}', 4, "unknown role 'bot'"),
        ('{"messages": [\n' + USER + ',\n{"role": "assistant", "content": null}]}', 3, "content is not text"),
        ('{"messages": [\n' + ASSISTANT + "]}", 2, "'assistant' where 'user' must stand"),
        ('{"messages": [\n' + USER + ",\n" + USER + "]}", 3, "'user' where 'assistant' must stand"),
        ('{"messages": [\n' + USER + ",\n" + ASSISTANT + ",\n\n " + USER + "]}", 5, "has no answer"),
    ],
)
def test_an_odd_file_is_an_error_with_its_line_and_the_dialogue_stays(tmp_path, text, line, reason):
    path = tmp_path / "old.json"
    path.write_text(text, "utf-8")
    dialogue, _ = dialogue_with()
    list(dialogue.ask("头痛"))
    before = list(dialogue.messages)
    with pytest.raises(DataError) as caught:
        dialogue.load(path)
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert reason in caught.value.message
    assert dialogue.messages == before


def test_a_missing_file_a_folder_and_other_encodings_are_data_errors(tmp_path):
    dialogue, _ = dialogue_with()
    (tmp_path / "gbk.json").write_bytes("发热".encode("gb18030"))
    for name, reason in (("none.json", "No such file"), (".", "Is a directory"), ("gbk.json", "UTF-8")):
        with pytest.raises(DataError, match=reason):
            dialogue.load(tmp_path / name)


def test_saving_never_overwrites_a_file_that_is_no_dialogue(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("keep me", "utf-8")
    dialogue, _ = dialogue_with()
    with pytest.raises(DataError):
        dialogue.save(path)
    assert path.read_text("utf-8") == "keep me"


def test_top_p_must_be_a_share():
    assert sampling_of(Settings()) == Sampling(temperature=0.7, top_p=0.9, max_tokens=512, seed=42)
    for share in (0.0, 1.5):
        with pytest.raises(UsageError, match="top-p"):
            sampling_of(Settings(top_p=share))


class Cutting:
    """A speaker that says how its answer ended."""

    def __init__(self, finish):
        self.finish = finish

    def reply(self, messages, sampling):
        yield "多喝"
        return Answer(text="多喝", finish=self.finish)


@pytest.mark.parametrize(("finish", "cut"), [("length", True), ("stop", False)])
def test_an_answer_that_was_cut_is_known_as_such(finish, cut):
    dialogue = Dialogue(Cutting(finish), Sampling())
    assert "".join(dialogue.ask("头痛")) == "多喝"
    assert dialogue.is_cut is cut
    assert dialogue.turns == 1
