"""The official Python client against a server on this machine."""

import asyncio

import openai
import pytest

from tests.web.fake_scheduler import FakeScheduler
from tests.web.serving import running

ASKED = [{"role": "user", "content": "头痛怎么办"}]


@pytest.fixture(scope="module")
def server():
    with running(FakeScheduler()) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_the_models_are_listed_and_told(client):
    assert [model.id for model in client.models.list()] == ["echo", "broken", "silent"]
    assert "不能代替医生" in client.models.retrieve("echo").disclaimer
    with pytest.raises(openai.NotFoundError, match="did you mean 'echo'"):
        client.models.retrieve("ecko")


def test_a_whole_answer_with_its_usage(client):
    said = client.chat.completions.create(model="echo", messages=ASKED)
    assert said.choices[0].message.content == "头痛怎么办"
    assert (said.choices[0].finish_reason, said.model, said.object) == ("stop", "echo", "chat.completion")
    assert (said.usage.prompt_tokens, said.usage.completion_tokens, said.usage.total_tokens) == (5, 5, 10)


def test_a_stream_says_the_role_first_and_the_usage_last(client):
    options = {"include_usage": True}
    events = list(client.chat.completions.create(model="echo", messages=ASKED, stream=True, stream_options=options))
    assert events[0].choices[0].delta.role == "assistant"
    assert "".join(event.choices[0].delta.content or "" for event in events[:-1]) == "头痛怎么办"
    assert [event.choices[0].finish_reason for event in events[:-1]][-1] == "stop"
    assert (events[-1].choices, events[-1].usage.total_tokens) == ([], 10)
    assert len({event.id for event in events}) == 1


def test_a_stream_without_usage_has_none(client):
    events = list(client.chat.completions.create(model="echo", messages=ASKED, stream=True))
    assert all(event.choices and event.usage is None for event in events)


def test_settings_reach_the_model(client, server):
    client.chat.completions.create(
        model="echo", messages=[{"role": "developer", "content": "你是医生"}, *ASKED], temperature=0, top_p=0.5, seed=7,
        max_completion_tokens=20, stop="怎", frequency_penalty=-1, presence_penalty=0.5, user="me", store=False,
        extra_body={"top_k": 3, "repetition_penalty": 1.1},
    )  # fmt: skip
    request = server.service.scheduler.asked[-1]
    assert [message.role for message in request.prompt] == ["system", "user"]
    how = request.sampling
    assert (how.temperature, how.top_p, how.top_k, how.max_tokens, how.seed) == (0, 0.5, 3, 20, 7)
    assert (how.frequency_penalty, how.presence_penalty, how.repetition_penalty) == (-1, 0.5, 1.1)
    assert how.stop == ("怎",)


def test_what_is_left_out_is_openai_s_default_and_as_much_as_fits(client, server):
    client.chat.completions.create(model="echo", messages=ASKED)
    first = server.service.scheduler.asked[-1].sampling
    assert (first.temperature, first.top_p, first.top_k, first.max_tokens, first.stop) == (1, 1, 0, 1000, ())
    client.chat.completions.create(model="echo", messages=ASKED)
    assert server.service.scheduler.asked[-1].sampling.seed != first.seed


def test_parts_of_text_are_one_text(client):
    parts = [{"type": "text", "text": "头痛"}, {"type": "text", "text": "三天"}]
    said = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": parts}])
    assert said.choices[0].message.content == "头痛\n三天"


def test_several_answers_have_seeds_of_their_own(client, server):
    said = client.chat.completions.create(model="echo", messages=ASKED, n=3, seed=5, max_tokens=2)
    assert [(choice.index, choice.message.content) for choice in said.choices] == [(n, "头痛") for n in range(3)]
    assert sorted(request.sampling.seed for request in server.service.scheduler.asked[-3:]) == [5, 6, 7]
    assert {choice.finish_reason for choice in said.choices} == {"length"}
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (5, 6)


def test_several_answers_in_one_stream_are_told_apart(client):
    texts = {0: "", 1: ""}
    for event in client.chat.completions.create(model="echo", messages=ASKED, n=2, stream=True):
        texts[event.choices[0].index] += event.choices[0].delta.content or ""
    assert texts == {0: "头痛怎么办", 1: "头痛怎么办"}


def test_log_probabilities_of_an_answer(client):
    said = client.chat.completions.create(model="echo", messages=ASKED, logprobs=True, top_logprobs=2, max_tokens=1)
    first, second = said.choices[0].logprobs.content
    assert bytes(first.bytes + second.bytes).decode() == "头"
    assert (first.logprob, [other.logprob for other in first.top_logprobs]) == (-0.5, [-9999.0, -9999.0])


def test_log_probabilities_in_a_stream(client):
    events = client.chat.completions.create(model="echo", messages=ASKED, logprobs=True, stream=True)
    told = [event.choices[0].logprobs.content for event in events if event.choices[0].logprobs]
    assert b"".join(bytes(token.bytes) for tokens in told for token in tokens).decode() == "头痛怎么办"


def test_a_text_is_continued(client):
    said = client.completions.create(model="echo", prompt="头痛a", logprobs=1)
    assert (said.choices[0].text, said.object) == ("头痛a", "text_completion")
    assert said.choices[0].logprobs.text_offset == [0, 0, 1, 1, 2]
    assert said.choices[0].logprobs.top_logprobs[0] == {"o0": -9999.0}


def test_several_texts_are_continued_in_order(client):
    said = client.completions.create(model="echo", prompt=["甲", "乙"], n=2)
    assert [choice.text for choice in said.choices] == ["甲", "甲", "乙", "乙"]
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (2, 4)


def test_a_text_is_continued_in_a_stream(client):
    events = list(client.completions.create(model="echo", prompt="头痛", stream=True))
    assert "".join(event.choices[0].text for event in events) == "头痛"
    assert events[-1].choices[0].finish_reason == "stop"


def test_the_client_that_waits_for_many_at_once(server):
    async def ask(client, question):
        said = await client.chat.completions.create(model="echo", messages=[{"role": "user", "content": question}])
        return said.choices[0].message.content

    async def stream(client, question):
        events = await client.completions.create(model="echo", prompt=question, stream=True)
        return "".join([event.choices[0].text async for event in events])

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
            return await asyncio.gather(
                *(ask(client, f"病{number}") for number in range(10)), *(stream(client, f"症{n}") for n in range(10))
            )

    assert asyncio.run(ask_all()) == [f"病{number}" for number in range(10)] + [f"症{number}" for number in range(10)]


def test_errors_are_the_client_s_own(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="echo", messages=[{"role": "tool", "content": "x", "tool_call_id": "1"}])
    assert caught.value.param == "messages[0].role"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="other", prompt="x")
    with pytest.raises(openai.BadRequestError, match="too long"):
        client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "长" * 1000}])
    with pytest.raises(openai.InternalServerError, match="out of memory"):
        client.chat.completions.create(model="broken", messages=ASKED)


def test_what_fails_within_a_stream_is_told_in_it(client):
    said = []
    with pytest.raises(openai.APIError, match="out of memory"):
        for event in client.chat.completions.create(model="broken", messages=ASKED, stream=True):
            said.append(event.choices[0].delta.content)
    assert said == ["", "头"]
