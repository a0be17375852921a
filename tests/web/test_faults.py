"""Clients that go away, a server that is full or closes, answers that take too long, and what is kept of all this."""

import json
import socket
import stat
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest

from medcli.web.conversation_log import ConversationLog
from tests.web.fake_scheduler import FakeScheduler
from tests.web.serving import running

SILENT = {"model": "silent", "messages": [{"role": "user", "content": "头痛"}]}
LONG = {"model": "echo", "messages": [{"role": "user", "content": "长" * 900}]}


@pytest.fixture
def scheduler():
    return FakeScheduler(pace=0.005, slots=2, places=1)


@pytest.fixture
def server(scheduler):
    with running(scheduler) as server:
        yield server


def open_request(server, body):
    """A connection on which a request was sent, and its first bytes, if any, are not read."""
    content = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


def until(truth, within=5.0):
    """Whether it becomes true in time."""
    end = time.monotonic() + within
    while not truth() and time.monotonic() < end:
        time.sleep(0.005)
    return truth()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("body", [SILENT, LONG], ids=["silent", "speaking"])
def test_a_client_that_goes_away_stops_the_model(server, scheduler, body, stream):
    connection = open_request(server, {**body, "stream": stream, "n": 2})
    assert until(lambda: scheduler.running == 2)
    connection.close()
    assert until(lambda: scheduler.cancelled == 2, within=1.0)
    assert scheduler.idle()
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_a_client_that_reads_half_a_stream_and_leaves(server, scheduler):
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json={**LONG, "stream": True}) as answer:
        for _, _ in zip(range(5), answer.iter_lines(), strict=False):
            pass
    assert until(lambda: scheduler.cancelled == 1, within=1.0)
    assert scheduler.said < 800


def test_one_that_waits_and_leaves_frees_its_place(server, scheduler):
    connections = [open_request(server, SILENT) for _ in range(3)]
    assert until(lambda: (scheduler.running, scheduler.waiting) == (2, 1))
    for connection in connections:
        connection.close()
    assert scheduler.idle()
    assert httpx.post(f"{server.url}/v1/completions", json={"prompt": "x"}).status_code == 200


def test_who_comes_when_all_is_full_is_told_when_to_come_back(server, scheduler):
    connections = [open_request(server, SILENT) for _ in range(3)]
    assert until(lambda: (scheduler.running, scheduler.waiting) == (2, 1))
    answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "x"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["code"] == "busy"
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    with client, pytest.raises(openai.RateLimitError):
        client.completions.create(model="echo", prompt="x", stream=True)
    for connection in connections:
        connection.close()


def test_of_several_answers_none_is_begun_when_not_all_can_be(server, scheduler):
    with open_request(server, SILENT):
        assert until(lambda: scheduler.running == 1)
        assert httpx.post(f"{server.url}/v1/completions", json={"prompt": "长" * 500, "n": 3}).status_code == 429
        assert until(lambda: (scheduler.running, scheduler.waiting) == (1, 0))
    assert scheduler.idle()


def test_a_server_that_closes_says_so(server, scheduler):
    server.service.closing.set()
    scheduler.close(0)
    health = httpx.get(f"{server.url}/health")
    assert (health.status_code, health.json()) == (503, {"status": "closing"})
    answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "closing")
    assert int(answer.headers["retry-after"]) > 0


def test_a_long_answer_is_cut_and_a_silent_one_is_given_up():
    scheduler = FakeScheduler(pace=0.01)
    with running(scheduler, time_limit=0.3) as server:
        url = f"{server.url}/v1/chat/completions"
        cut = httpx.post(url, json=LONG).json()
        assert cut["choices"][0]["finish_reason"] == "length"
        assert 0 < len(cut["choices"][0]["message"]["content"]) < 60
        assert cut["usage"] is None
        lines = httpx.post(url, json={**LONG, "stream": True}).text.split("\n\n")
        assert '"finish_reason":"length"' in lines[-3]
        assert lines[-2] == "data: [DONE]"
        silent = httpx.post(url, json=SILENT)
        assert (silent.status_code, silent.json()["error"]["code"]) == (503, "time_limit")
        assert "time_limit" in httpx.post(url, json={**SILENT, "stream": True}).text
        assert scheduler.idle()


def test_a_reader_who_does_not_read_holds_a_slot_no_longer_than_the_answer_takes(server, scheduler):
    long = {"messages": [{"role": "user", "content": "长" * 200}]}
    with open_request(server, {**long, "stream": True}):
        assert until(lambda: scheduler.said > 50)
        assert httpx.post(f"{server.url}/v1/completions", json={"prompt": "x"}).json()["choices"][0]["text"] == "x"
        assert scheduler.idle(within=20)


def test_no_answer_is_held_back_for_a_packet_to_fill(server):
    with httpx.Client(base_url=server.url) as client:
        assert min(client.get("/health").elapsed.total_seconds() for _ in range(10)) < 0.03


def test_figures_of_what_was_asked(server, scheduler):
    httpx.post(f"{server.url}/v1/completions", json={"prompt": "头痛"})
    httpx.post(f"{server.url}/v1/completions", json={"prompt": ""})
    httpx.get(f"{server.url}/made/up/{'x' * 50}")
    text = httpx.get(f"{server.url}/metrics").text
    assert 'med_requests_total{code="200",route="/v1/completions"} 1.0' in text
    assert 'med_requests_total{code="400",route="/v1/completions"} 1.0' in text
    assert 'med_requests_total{code="404",route="other"} 1.0' in text
    assert "med_first_piece_seconds_count 1.0" in text
    assert 'med_tokens_total{kind="said"} 2.0' in text
    assert ("med_slots 2.0" in text, "med_running 0.0" in text, "med_waiting 0.0" in text) == (True, True, True)
    assert "process_resident_memory_bytes" in text


def test_conversations_are_kept_only_on_demand_and_without_names(tmp_path):
    path = tmp_path / "log" / "talks.jsonl"
    problems = []
    log = ConversationLog(path, problems.append)
    question = "我叫张伟，电话１３８００１３８０００，头痛"
    with running(FakeScheduler(), log=log) as server:
        body = {"messages": [{"role": "user", "content": question}]}
        identifier = httpx.post(f"{server.url}/v1/chat/completions", json=body).json()["id"]
        httpx.post(f"{server.url}/v1/completions", json={"prompt": ["甲", "乙"], "n": 2, "stream": True})
        httpx.post(f"{server.url}/v1/completions", json={"prompt": ""})
    log.close()
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert identifier == f"chatcmpl-{rows[0]['id']}"
    assert rows[0]["prompts"] == [[{"role": "user", "content": "我叫[姓名1]，电话[电话1]，头痛"}]]
    assert rows[0]["answers"] == [{"text": "我叫[姓名1]，电话[电话1]，头痛", "finish": "stop"}]
    assert rows[1]["prompts"] == ["甲", "乙"]
    assert [answer["text"] for answer in rows[1]["answers"]] == ["甲", "甲", "乙", "乙"]
    assert (len(rows), problems) == (2, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to write to")
def test_a_full_disk_costs_no_answer_and_is_told_once(tmp_path):
    path = tmp_path / "talks.jsonl"
    path.symlink_to("/dev/full")
    problems = []
    log = ConversationLog(path, problems.append)
    with running(FakeScheduler(), log=log) as server:
        for _ in range(2):
            assert httpx.post(f"{server.url}/v1/completions", json={"prompt": "x"}).status_code == 200
    with pytest.raises(OSError, match="No space"):
        log.close()
    assert len(problems) == 1
    assert "the disk is full" in problems[0]


def test_many_requests_leave_nothing_behind():
    scheduler = FakeScheduler()
    with running(scheduler) as server, httpx.Client(base_url=server.url) as client:
        for number in range(200):
            client.post("/v1/completions", json={"prompt": f"{number}", "stream": number % 2 == 0})
        assert scheduler.idle()
        assert until(lambda: threading.active_count() < 60)
