"""Requests that cannot be answered: a status, and the name of the field."""

import json

import httpx
import pytest

from tests.web.fake_scheduler import FakeScheduler
from tests.web.serving import running

USER = {"role": "user", "content": "头痛"}
ASSISTANT = {"role": "assistant", "content": "多喝水"}
SYSTEM = {"role": "system", "content": "你是医生"}


@pytest.fixture(scope="module")
def client():
    scheduler = FakeScheduler(slots=4, places=4)
    with (
        running(scheduler, slots=4, waiting=4, max_tokens=600) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        yield client


def refused(client, path="/v1/chat/completions", *, status=400, **body):
    """The error's param and message."""
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error["param"], error["message"]


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("temperature", "hot", "temperature"),
        ("temperature", -1, "temperature"),
        ("temperature", 2.1, "temperature"),
        ("temperature", True, "temperature"),
        ("top_p", 0, "top_p"),
        ("top_p", 1.5, "top_p"),
        ("top_k", -1, "top_k"),
        ("top_k", 1.5, "top_k"),
        ("n", 0, "n"),
        ("n", 9, "n"),
        ("seed", -1, "seed"),
        ("seed", 10**30, "seed"),
        ("max_tokens", 0, "max_tokens"),
        ("max_tokens", 601, "max_tokens"),
        ("max_tokens", 10**12, "max_tokens"),
        ("max_completion_tokens", 601, "max_completion_tokens"),
        ("stop", "", "stop"),
        ("stop", ["a", ""], "stop[1]"),
        ("stop", ["a"] * 17, "stop"),
        ("stop", 5, "stop"),
        ("frequency_penalty", 2.5, "frequency_penalty"),
        ("presence_penalty", -2.5, "presence_penalty"),
        ("repetition_penalty", 0, "repetition_penalty"),
        ("stream", "yes", "stream"),
        ("stream_options", {"include_usage": True}, "stream_options"),
        ("stream_options", {"include_usge": True}, "stream_options.include_usge"),
        ("top_logprobs", 5, "top_logprobs"),
        ("top_logprobs", 21, "top_logprobs"),
        ("logprobs", 3, "logprobs"),
        ("model", 5, "model"),
        ("tools", [{"type": "function"}], "tools"),
        ("functions", [], "functions"),
        ("logit_bias", {"50256": -100}, "logit_bias"),
        ("response_format", {"type": "json_object"}, "response_format.type"),
        ("modalities", ["audio"], "modalities[0]"),
        ("temprature", 1, "temprature"),
    ],
)
def test_a_field_that_does_not_fit_is_named(client, field, value, param):
    said, message = refused(client, messages=[USER], **{field: value})
    assert said == param
    assert param in message


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ("头痛", "messages"),
        ([SYSTEM], "messages[0].role"),
        ([ASSISTANT], "messages[0].role"),
        ([USER, USER], "messages[1].role"),
        ([USER, ASSISTANT], "messages[1].role"),
        ([USER, SYSTEM, USER], "messages[1].role"),
        ([SYSTEM, SYSTEM, USER], "messages[1].role"),
        ([SYSTEM, USER, ASSISTANT, ASSISTANT, USER], "messages[3].role"),
        ([USER, ASSISTANT, {"role": "function", "content": "x"}], "messages[2].role"),
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "user", "content": " \n"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"content": "头痛"}], "messages[0].role"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content[0].type"),
        ([USER, {**ASSISTANT, "tool_calls": [{}]}, USER], "messages[1].tool_calls"),
        ([{**USER, "contents": "x"}], "messages[0].contents"),
        ([5], "messages[0]"),
    ],
)
def test_an_odd_history_is_refused_at_its_place(client, messages, param):
    assert refused(client, messages=messages)[0] == param


def test_an_unknown_field_is_told_with_the_nearest_one(client):
    assert "did you mean 'temperature'?" in refused(client, messages=[USER], temprature=1)[1]


def test_limits_are_told(client):
    assert "600 tokens that this server allows" in refused(client, messages=[USER], max_tokens=601)[1]
    assert refused(client, "/v1/completions", prompt=["a"] * 5, n=2)[0] == "n"
    assert refused(client, messages=[USER], max_tokens=5, max_completion_tokens=6)[0] == "max_tokens"
    assert refused(client, messages=[USER], model="other", status=404)[0] == "model"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt[1]"),
        ({"prompt": [1, 2]}, "prompt[0]"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "messages": [USER]}, "messages"),
    ],
)
def test_texts_that_cannot_be_continued(client, body, param):
    assert refused(client, "/v1/completions", **body)[0] == param


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b"null", b'{"messages": "\xff"}', b"[" * 50_000, b'{"seed": ' + b"9" * 5000 + b"}"],
    ids=["empty", "cut", "a list", "a number", "null", "not UTF-8", "deep", "a long number"],
)
def test_what_is_not_an_object_of_json_is_refused(client, content):
    answer = client.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_half_a_character_is_no_text(client):
    body = json.dumps({"messages": [{"role": "user", "content": "\ud800"}]})
    answer = client.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages[0].content")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_read_for_a_page_elsewhere_can_send_the_rest(client, kind):
    body = json.dumps({"messages": [USER]})
    answer = client.post("/v1/chat/completions", content=body, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == 400
    assert "application/json" in answer.json()["error"]["message"]


def test_paths_and_methods_that_are_not_there(client):
    assert client.get("/v2").json()["error"]["message"].startswith("there is nothing at this path")
    wrong = client.get("/v1/chat/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["error"]["type"] == "invalid_request_error"


def test_null_is_as_good_as_nothing(client):
    names = ("model", "temperature", "top_p", "n", "seed", "stop", "max_tokens", "stream", "tools", "logprobs", "user")
    answer = client.post("/v1/chat/completions", json={"messages": [USER], **dict.fromkeys(names)})
    assert answer.json()["choices"][0]["message"]["content"] == "头痛"
