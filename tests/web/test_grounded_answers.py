"""Answers that rest on a knowledge base: what the model is given, and what a client is shown."""

import httpx
import pytest

from medcli.core.citation import Grounding, grounded
from medcli.core.passage import Passage
from tests.web.fake_scheduler import FakeScheduler
from tests.web.serving import running

PASSAGE = Passage(text="偏头痛应避光休息。", source="guide.txt:3")
BODY = {"messages": [{"role": "user", "content": "偏头痛怎么办"}], "max_tokens": 1000}


class Shelf:
    """A library with one passage, which fits when the question names it; keeps the room that it was left."""

    def __init__(self):
        self.rooms = []

    def ground(self, messages, room=None):
        self.rooms.append(room)
        found = (PASSAGE,) if "偏头痛" in messages[-1].content else ()
        return Grounding(messages=grounded(messages, found), passages=found, kb="guides")


@pytest.fixture(scope="module")
def server():
    with running(FakeScheduler(), kb=Shelf()) as server:
        yield server


def test_the_model_is_given_passages_and_the_client_sees_them(server):
    said = httpx.post(f"{server.url}/v1/chat/completions", json=BODY | {"n": 2}).json()
    assert "避光休息" in server.service.scheduler.asked[-1].prompt[-1].content
    assert said["citations"] == [{"number": 1, "source": "guide.txt:3", "text": "偏头痛应避光休息。"}]
    assert all("（guide.txt:3）" in choice["message"]["content"] for choice in said["choices"])


def test_a_stream_shows_them_before_it_ends(server):
    events = httpx.post(f"{server.url}/v1/chat/completions", json=BODY | {"stream": True}).text.split("\n\n")
    assert "（guide.txt:3）" in events[-4]
    assert '"finish_reason":"stop"' in events[-3]
    assert '"citations":[{"number":1' in events[-3]


def test_where_nothing_fits_it_says_so(server):
    body = {"messages": [{"role": "user", "content": "今天天气"}]}
    said = httpx.post(f"{server.url}/v1/chat/completions", json=body).json()
    assert said["citations"] == []
    assert said["choices"][0]["message"]["content"].startswith("今天天气\n")
    assert "未找到依据" in said["choices"][0]["message"]["content"]


def test_passages_leave_room_for_the_answer(server):
    httpx.post(f"{server.url}/v1/chat/completions", json=BODY | {"max_tokens": 100})
    httpx.post(f"{server.url}/v1/chat/completions", json=BODY | {"max_tokens": None})
    long, unsaid = server.service.kb.rooms[-2:]
    assert 500 < long < 900
    assert 100 < unsaid < 500


def test_plain_texts_are_continued_without(server):
    assert "citations" not in httpx.post(f"{server.url}/v1/completions", json={"prompt": "偏头痛"}).json()
