"""An exam that was killed goes on: nothing is asked twice, nothing is lost, and the answers are those of one go."""

import hashlib
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medcli.core.errors import StorageError, UsageError
from medcli.core.journal import Journal, Remembering, RememberingReader
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.speaker import Likelihood, Sampling
from tests.building import Notes

ROOT = Path(__file__).parents[2]
HEADER = {"model": {"files": ("a", 1)}, "path": Path("data/x")}
GREEDY = Sampling(temperature=0.0, seed=7)
DRAWN = Sampling(temperature=0.8, seed=7)


class Chance:
    """Draws as a model does: an answer depends on the seed, and on what is asked in the same batch."""

    def __init__(self, stuck_after=None):
        self.asked = []
        self.stuck_after = stuck_after

    def reply(self, messages, sampling):
        self.asked.append([messages[-1].content])
        yield from ("一", "二", str(sampling.seed))

    def replies(self, prompts, sampling, advance):
        texts = [prompt[-1].content for prompt in prompts]
        if len(self.asked) == self.stuck_after:
            time.sleep(600)
        self.asked.append(texts)
        whole = "".join(texts) + str(sampling.seed)
        answers = []
        for number, text in enumerate(texts, 1):
            answers.append(hashlib.sha256(f"{whole}{number}{text}".encode()).hexdigest() + "答\u2028\ud83d")
            advance(number)
        return answers


def user(text):
    return (Message(role="user", content=text),)


def prompts(count=50):
    return [user(f"{number}：" + "问" * (number * 7 % 13)) for number in range(count)]


def sat(path, speaker, sampling=DRAWN, asked=None, done=None, report=None, chunk=8):
    with Journal.open(path, HEADER, report or Silent()) as journal:
        remembering = Remembering(speaker, journal, "candidate", chunk)
        return remembering.replies(
            prompts() if asked is None else asked, sampling, ([] if done is None else done).append
        )


def test_prompts_are_asked_in_chunks_of_like_length_and_answered_in_order(tmp_path):
    speaker, done = Chance(), []
    answers = sat(tmp_path / "j", speaker, done=done)
    assert [len(chunk) for chunk in speaker.asked] == [8] * 6 + [2]
    lengths = [len(text) for chunk in speaker.asked for text in chunk]
    assert lengths == sorted(lengths)
    assert done == sorted(done)
    assert done[-1] == 50
    place = next(place for place, prompt in enumerate(prompts()) if prompt[0].content == speaker.asked[3][2])
    assert answers[place] == Chance().replies([user(text) for text in speaker.asked[3]], Sampling(seed=10), print)[2]


def test_what_is_known_is_not_asked_again(tmp_path):
    first = sat(tmp_path / "j", Chance())
    report, speaker = Notes(), Chance()
    assert sat(tmp_path / "j", speaker, report=report) == first
    assert speaker.asked == []
    assert report.notes == ["going on where it was stopped: 50 answers are there already"]
    sat(tmp_path / "j", speaker, sampling=GREEDY)  # is another question
    assert len(speaker.asked) == 7


def test_wherever_a_line_breaks_off_the_answers_are_those_of_one_go(tmp_path):
    whole = sat(tmp_path / "whole", Chance())
    content = (tmp_path / "whole").read_bytes()
    lines = content.splitlines(keepends=True)
    for kept in range(1, len(lines)):
        before = sum(map(len, lines[:kept]))
        for cut in {before, before + 1, before + len(lines[kept]) // 2, before + len(lines[kept]) - 1}:
            (tmp_path / "cut").write_bytes(content[:cut])
            speaker = Chance()
            assert sat(tmp_path / "cut", speaker) == whole
            assert len(speaker.asked) == len(lines) - kept
            assert (tmp_path / "cut").read_bytes() == content


def test_a_killed_process_goes_on(tmp_path):
    child = subprocess.Popen([sys.executable, "-m", "tests.core.test_journal", str(tmp_path)], cwd=ROOT)
    try:
        while not (tmp_path / "j").exists() or (tmp_path / "j").read_bytes().count(b"\n") < 4:
            time.sleep(0.01)
            assert child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    speaker = Chance()
    assert sat(tmp_path / "j", speaker) == sat(tmp_path / "other", Chance())
    assert len(speaker.asked) == 7 - 3


def test_other_answers_are_not_used(tmp_path):
    path = tmp_path / "j"
    sat(path, Chance())
    report, speaker = Notes(), Chance()
    with Journal.open(path, {**HEADER, "model": "another"}, report) as journal:
        Remembering(speaker, journal, "candidate", 8).replies(prompts(), DRAWN, lambda done: None)
    assert len(speaker.asked) == 7
    [note] = report.notes
    assert "answers that were begun are not used" in note
    speaker = Chance()
    sat(path, speaker)
    assert len(speaker.asked) == 7


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (b"", 0),
        (b'{"journal": {"mod', 0),
        (b"hello\nworld\n", 1),
        (b"[1]\n[2]\n", 1),
        (b"\0" * 4096 + b"\n", 1),
        (b"\xff\xfe\xfa\n{}\n", 1),
    ],
)
def test_a_file_that_is_no_journal_is_begun_anew(tmp_path, content, notes):
    (tmp_path / "j").write_bytes(content)
    report, speaker = Notes(), Chance()
    assert sat(tmp_path / "j", speaker, report=report) == sat(tmp_path / "other", Chance())
    assert len(report.notes) == notes
    speaker = Chance()
    sat(tmp_path / "j", speaker)
    assert speaker.asked == []


def test_garbage_between_lines_costs_only_itself(tmp_path):
    path = tmp_path / "j"
    whole = sat(path, Chance())
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\0\0\0\xff garbage\n"
    lines[4:4] = [b"[]\n", b'{"key": 1, "answers": 2}\n', b"\n"]
    path.write_bytes(b"".join(lines))
    speaker = Chance()
    assert sat(path, speaker) == whole
    assert len(speaker.asked) == 1


def test_the_same_prompt_is_answered_wherever_it_stands(tmp_path):
    asked = [user("甲"), user("乙"), user("甲"), user("甲")]
    speaker, done = Chance(), []
    first = sat(tmp_path / "j", speaker, GREEDY, asked, done)
    assert speaker.asked == [["甲", "乙"]]  # without chance once is enough
    assert first[0] == first[2] == first[3] != first[1]
    assert done[-1] == 4
    drawn = sat(tmp_path / "j", speaker, DRAWN, asked)
    assert speaker.asked[1] == ["甲", "乙", "甲", "甲"]
    assert len(set(drawn)) == 4
    assert sat(tmp_path / "j", Chance(), DRAWN, asked) == drawn


def test_speakers_of_one_journal_are_told_apart(tmp_path):
    with Journal.open(tmp_path / "j", HEADER, Silent()) as journal:
        speaker = Chance()
        for who in ("candidate", "judge"):
            Remembering(speaker, journal, who).replies([user("甲")], GREEDY, lambda done: None)
    assert len(speaker.asked) == 2


def test_a_reply_is_kept_when_it_was_heard_to_its_end(tmp_path):
    with Journal.open(tmp_path / "j", HEADER, Silent()) as journal:
        speaker = Chance()
        remembering = Remembering(speaker, journal, "patient")
        broken_off = remembering.reply(user("甲"), GREEDY)
        assert next(broken_off) == "一"
        broken_off.close()
        assert list(remembering.reply(user("甲"), GREEDY)) == ["一", "二", "7"]
        assert "".join(remembering.reply(user("甲"), GREEDY)) == "一二7"
    assert len(speaker.asked) == 2


class Counting:
    """A reader whose figures are told by what it reads."""

    def __init__(self):
        self.asked = []

    def likelihoods(self, prompts, endings, advance, *, ended=False):
        self.asked.append([prompt[-1].content for prompt in prompts])
        advance(len(prompts))
        return [
            [Likelihood(total=-len(prompt[-1].content) / 3 - ended, tokens=len(ending)) for ending in some]
            for prompt, some in zip(prompts, endings, strict=True)
        ]

    def perplexity(self, conversations, report):
        return 2.0, len(conversations), [0.5]


def test_likelihoods_are_remembered_to_the_last_digit(tmp_path):
    asked, endings = prompts(20), [("A", "BC")] * 19 + [("一",)]
    found, done, reader = [], [], Counting()
    for _ in range(2):
        with Journal.open(tmp_path / "j", HEADER, Silent()) as journal:
            remembering = RememberingReader(reader, journal, chunk=8)
            found.append(remembering.likelihoods(asked, endings, done.append))
            assert remembering.perplexity([], Silent()) == (2.0, 0, [0.5])
    assert found[0] == found[1] == Counting().likelihoods(asked, endings, lambda done: None)
    assert [text for chunk in reader.asked for text in chunk] == [prompt[0].content for prompt in asked]
    assert done[-1] == 20
    with Journal.open(tmp_path / "j", HEADER, Silent()) as journal:
        ended = RememberingReader(reader, journal, chunk=8).likelihoods(asked, endings, done.append, ended=True)
    assert ended != found[0]


def test_one_process_alone_holds_a_journal(tmp_path):
    with (
        Journal.open(tmp_path / "j", HEADER, Silent()),
        pytest.raises(UsageError, match="another process is at work"),
        Journal.open(tmp_path / "j", HEADER, Silent()),
    ):
        pass


def test_a_journal_is_gone_when_it_is_not_needed_any_more(tmp_path):
    with Journal.open(tmp_path / "eval" / "j", HEADER, Silent()) as journal:
        Remembering(Chance(), journal, "candidate").replies(prompts(), GREEDY, lambda done: None)
        journal.remove()
    assert list((tmp_path / "eval").iterdir()) == []


def test_a_full_disk_says_what_is_kept(tmp_path):
    path, speaker = tmp_path / "j", Chance()
    sat(path, speaker, asked=prompts(8))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        with pytest.raises(StorageError) as error:
            sat(path, speaker, asked=[user("甲"), user("乙")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "8 answers are kept" in error.value.hint
    again = Chance()
    sat(path, again, asked=prompts(8))
    assert again.asked == []
    assert json.loads(path.read_bytes().splitlines()[-1])["answers"]


if __name__ == "__main__":  # the process that is killed
    sat(Path(sys.argv[1]) / "j", Chance(stuck_after=3))
