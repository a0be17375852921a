"""The server over a real, tiny model: the same promises as over a scripted one."""

import threading
import time

import httpx
import openai
import pytest

from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine.scheduler import open_scheduler
from tests.web.serving import running

QUESTIONS = ["头痛怎么办", "发热吃什么药", "偏头痛有什么症状", "咳嗽挂什么科", "高血压怎么治疗", "胃炎的症状"]


@pytest.fixture(scope="module")
def server(tiny_folder):
    ref = ModelRef(base=str(tiny_folder))
    scheduler = open_scheduler(
        {"tiny": ref, "twin": ref}, device="cpu", quant="none", dtype="auto", slots=4, waiting=64, report=Silent()
    )
    with running(scheduler, slots=4) as server:
        yield server
    scheduler.close(5)


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def answer(client, question, model="tiny", **how):
    how = {"temperature": 1.5, "seed": 1, "max_tokens": 24} | how  # greedy, a random model says hardly a word
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}], **how)


def text_of(said):
    return said.choices[0].message.content


def streamed(client, question, **how):
    events = list(answer(client, question, stream=True, **how))
    return "".join(event.choices[0].delta.content or "" for event in events), events[-1].choices[0].finish_reason


def test_a_stream_says_what_a_whole_answer_says(client):
    for question in QUESTIONS:
        whole = answer(client, question)
        assert streamed(client, question) == (text_of(whole), whole.choices[0].finish_reason)
        assert whole.usage.completion_tokens <= 24


def test_a_seed_gives_the_same_answer_again_and_another_seed_another(client):
    first = [text_of(answer(client, "头痛", seed=seed)) for seed in (1, 2, 1)]
    assert first[0] == first[2] != first[1]
    several = answer(client, "头痛", n=2)
    assert [choice.message.content for choice in several.choices] == first[:2]


def test_log_probabilities_cover_the_answer(client):
    said = answer(client, "头痛", logprobs=True, top_logprobs=3, max_tokens=6, temperature=0)
    tokens = said.choices[0].logprobs.content
    assert len(tokens) == said.usage.completion_tokens == 6
    assert all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in tokens)
    assert all(token.top_logprobs[0].logprob == pytest.approx(token.logprob) for token in tokens)


def test_a_stop_word_ends_an_answer(client):
    whole = text_of(answer(client, "头痛"))
    word = whole[4:6]
    assert len(word) == 2
    said = answer(client, "头痛", stop=[word])
    assert (text_of(said), said.choices[0].finish_reason) == (whole.partition(word)[0], "stop")
    assert streamed(client, "头痛", stop=[word]) == (text_of(said), "stop")


def test_a_prompt_that_fills_the_context_is_refused_with_its_length(client):
    with pytest.raises(openai.BadRequestError, match="the model reads at most 512"):
        answer(client, "头痛" * 600)
    with pytest.raises(openai.BadRequestError, match="max_tokens: 513"):
        answer(client, "头痛", max_tokens=513)


def test_a_text_is_continued(client):
    said = client.completions.create(model="twin", prompt=["头痛", "发热"], max_tokens=5, temperature=0, logprobs=2)
    assert [choice.index for choice in said.choices] == [0, 1]
    assert all(len(choice.logprobs.tokens) == len(choice.logprobs.text_offset) <= 5 for choice in said.choices)


def test_many_at_once_hear_what_they_would_hear_alone(client):
    alone = {question: text_of(answer(client, question)) for question in QUESTIONS}
    heard = {}

    def ask(number):
        question = QUESTIONS[number % len(QUESTIONS)]
        heard[number] = (question, streamed(client, question)[0])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 16
    assert [said for question, said in heard.values() if said != alone[question]] == []


def test_who_leaves_frees_a_slot_within_a_step(server):
    scheduler = server.service.scheduler
    body = {"prompt": "头痛", "stream": True, "max_tokens": 500, "logit_bias": None}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body) as said:
        next(said.iter_lines())
        assert scheduler.load().running == 1
        before = scheduler.load().said
    end = time.monotonic() + 2
    while scheduler.load().running and time.monotonic() < end:
        time.sleep(0.001)
    assert scheduler.load().running == 0
    assert scheduler.load().said - before < 400
