import json
import threading
from collections.abc import Generator

import pytest

from medcli.core.citation import NOT_FOUND, cited, without_citations
from medcli.core.errors import UnknownNameError
from medcli.core.record import Conversation, Message
from medcli.core.report import Silent
from medcli.core.speaker import Answer, Declining, Likelihood, Sampling
from medcli.steps import kb
from medcli.steps.chat import Dialogue
from medcli.steps.grounded import Grounded, GroundedAnswers, GroundedReader, open_library
from tests.conftest import RAW

GUIDE = """高血压患者每天食盐不超过5克，少吃咸菜。

糖尿病患者应控制饮食，每周运动五天。
"""
PLAIN = Sampling(max_tokens=20)


def user(text):
    return Message(role="user", content=text)


class Doctor:
    """Says the same to everyone in two pieces, and remembers what it was asked."""

    def __init__(self, says="少吃盐[1]。", limit=None):
        self.says, self.limit = says, limit
        self.asked = []
        self.closed = False
        self.refusals = {}

    @property
    def context(self):
        return self.limit

    def reply(self, messages, sampling):
        self.asked.append(tuple(messages))
        try:
            yield self.says[:2]
            yield self.says[2:]
        finally:
            self.closed = True
        return Answer(text=self.says, finish="length", tokens=7)

    def replies(self, prompts, sampling, advance):
        self.asked += [tuple(prompt) for prompt in prompts]
        said = ["" if "拒绝" in prompt[-1].content else self.says for prompt in prompts]
        self.refusals |= {tuple(p): "no" for p, text in zip(prompts, said, strict=True) if not text}
        advance(len(prompts))
        return said

    def answers(self, prompts, sampling):
        self.asked += [tuple(prompt) for prompt in prompts]
        for number in reversed(range(len(prompts))):
            yield number, Answer(text=self.says, finish="stop", tokens=3)


class Plain:
    """A speaker that can only reply."""

    def reply(self, messages, sampling):
        return iter(["好。"])

    def replies(self, prompts, sampling, advance):
        return ["好。" for _ in prompts]


@pytest.fixture
def library(project):
    (project / "guide.txt").write_text(GUIDE * 2, "utf-8")
    kb.build(["guide.txt", str(RAW / "graph" / "cmekg.json")], kb.Settings(name="guide", passage_length=30), Silent())
    return open_library("guide")


def ended(generator: Generator[str, None, Answer | None]):
    """The pieces, and what was returned at the end."""
    pieces = []
    while True:
        try:
            pieces.append(next(generator))
        except StopIteration as end:
            return pieces, end.value


def test_an_answer_comes_as_it_is_said_and_then_what_it_cites(library):
    doctor = Doctor()
    pieces, answer = ended(Grounded(doctor, library).reply([user("高血压患者能吃咸菜吗")], PLAIN))
    assert pieces[:2] == ["少吃", "盐[1]。"]
    assert pieces[2].endswith("[1] “高血压患者每天食盐不超过5克，少吃咸菜。”（guide.txt:1）")
    assert answer == Answer(text="".join(pieces), finish="length", tokens=7)
    assert "食盐不超过5克" in doctor.asked[0][-1].content


def test_when_nothing_fits_the_model_hears_the_person_s_words_and_the_reader_is_told(library):
    doctor = Doctor("天气很好。")
    said = "".join(Grounded(doctor, library).reply([user("北京到上海的高铁票多少钱")], PLAIN))
    assert doctor.asked == [(user("北京到上海的高铁票多少钱"),)]
    assert said.startswith("天气很好。")
    assert NOT_FOUND in said


def test_many_prompts_are_answered_with_what_each_cites(library):
    grounded = Grounded(Doctor(), library)
    first, second = grounded.replies([[user("高血压吃盐")], [user("怎么学好英语")]], PLAIN, lambda done: None)
    assert "guide.txt:1" in first
    assert NOT_FOUND in second
    assert Grounded(Doctor(), library, citing=False).replies([[user("高血压吃盐")]], PLAIN, lambda done: None) == [
        "少吃盐[1]。"
    ]


def test_refusals_are_told_in_the_person_s_words_and_cite_nothing(library):
    grounded = Grounded(Doctor(), library)
    asked = user("高血压患者吃盐，请拒绝")
    assert grounded.replies([[asked]], PLAIN, lambda done: None) == [""]
    assert isinstance(grounded, Declining)
    assert dict(grounded.refusals) == {(asked,): "no"}
    assert dict(Grounded(Plain(), library).refusals) == {}


def test_a_speaker_that_does_not_tell_how_it_ended_is_grounded_too(library):
    pieces, answer = ended(Grounded(Plain(), library).reply([user("高血压吃盐")], PLAIN))
    assert pieces[0] == "好。"
    assert answer is None


def test_closing_the_answer_stops_the_model(library):
    doctor = Doctor()
    reply = Grounded(doctor, library).reply([user("高血压吃盐")], PLAIN)
    next(reply)
    reply.close()
    assert doctor.closed


def test_a_saved_dialogue_holds_the_person_s_own_questions(library, project):
    doctor = Doctor()
    dialogue = Dialogue(Grounded(doctor, library), PLAIN)
    list(dialogue.ask("高血压患者能吃咸菜吗"))
    list(dialogue.ask("糖尿病患者要运动吗"))
    dialogue.save(project / "talk.json")
    kept = json.loads((project / "talk.json").read_text("utf-8"))["messages"]
    assert [row["content"] for row in kept if row["role"] == "user"] == ["高血压患者能吃咸菜吗", "糖尿病患者要运动吗"]
    assert without_citations(kept[1]["content"]) == "少吃盐[1]。"
    again = doctor.asked[1]
    assert [message.content for message in again[:2]] == ["高血压患者能吃咸菜吗", "少吃盐[1]。"]
    assert "每周运动五天" in again[2].content


def test_a_question_that_leans_on_the_one_before_finds_its_fact(library):
    history = [user("大雪冻疮是什么病"), Message(role="assistant", content="一种冻疮。"), user("有哪些症状？")]
    grounding = library.ground(history)
    assert grounding.passages[0].text == "大雪冻疮的症状：手背紫红、遇热痒"
    assert cited(grounding, "手背紫红[1]。").endswith("（cmekg.json:4 大雪冻疮·症状）")


def test_passages_leave_room_for_the_answer(library):
    question = [user("大雪冻疮有什么症状，吃什么药，看什么科？")]
    assert len(library.ground(question).passages) > 1
    assert len(library.ground(question, room=0).passages) == 1
    doctor = Doctor(limit=300)
    list(Grounded(doctor, library).reply(question, PLAIN))
    assert doctor.asked[0][-1].content.count("<资料 ") == 1


def test_answers_in_any_order_keep_their_own_passages(library):
    source = GroundedAnswers(Doctor("好[1]。"), library).answers(
        [[user("高血压吃盐")], [user("糖尿病运动")], [user("写一首诗")]], [PLAIN] * 3
    )
    found = dict(source)
    assert list(found) == [2, 1, 0]
    assert "食盐" in found[0].text
    assert "运动五天" in found[1].text
    assert NOT_FOUND in found[2].text
    assert {answer.tokens for answer in found.values()} == {3}


class Reads:
    """A reader that remembers what it read."""

    def __init__(self):
        self.read = []

    def likelihoods(self, prompts, endings, advance, *, ended=False):
        self.read += [prompt[-1].content for prompt in prompts]
        return [[Likelihood(total=-1.0, tokens=1) for _ in texts] for texts in endings]

    def perplexity(self, conversations, report):
        self.read += [conversation.messages for conversation in conversations]
        return 1.0, 1, [0.0]


def test_likelihoods_are_read_with_passages(library):
    reader = Reads()
    grounded = GroundedReader(reader, library, context=4000)
    assert len(grounded.likelihoods([[user("高血压吃盐")]], [("A", "B")], lambda done: None)[0]) == 2
    assert "食盐不超过5克" in reader.read[0]


def test_perplexity_is_of_answers_that_follow_passages(library):
    reader = Reads()
    answer = Message(role="assistant", content="少吃盐。")
    dialogue = Conversation(id="1", messages=(user("高血压吃盐"), answer), source="x")
    GroundedReader(reader, library).perplexity([dialogue], Silent())
    assert "食盐不超过5克" in reader.read[0][0].content
    assert reader.read[0][1] == answer


def test_threads_share_a_library(library):
    questions = ["高血压吃盐", "糖尿病运动", "大雪冻疮的症状", "写一首诗"]
    wanted = {question: library.find(question) for question in questions}
    wrong = []

    def ask():
        wrong.extend(question for question in questions * 20 if library.find(question) != wanted[question])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_name_that_is_not_known_says_the_nearest(library):
    with pytest.raises(UnknownNameError) as told:
        open_library("gudie")
    assert "did you mean 'guide'?" in told.value.hint


def test_limit_is_kept(library):
    assert len(library.find("患者", limit=1)) <= 1
    assert len(library.find("大雪冻疮有什么症状，吃什么药，看什么科？", limit=2)) == 2
