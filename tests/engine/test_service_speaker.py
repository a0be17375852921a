"""A model behind a service speaks as one that is here: in order, as it is told to, and one refusal ends no exam."""

import json
import socket
import time
from dataclasses import replace

import pytest

from medcli.core.errors import ServiceError
from medcli.core.record import Message
from medcli.core.service_ref import ServiceRef
from medcli.core.speaker import Sampling
from medcli.engine import completions
from medcli.engine.service_speaker import THREADS, ServiceSpeaker
from tests.building import Notes
from tests.engine.chat_service import Fault, Raw, chat_service, filtered, last

GREEDY = Sampling(temperature=0.0, top_p=0.9, max_tokens=7, seed=5)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("MED_API_KEY", "OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def user(text):
    return Message(role="user", content=text)


def speaker_at(service, report=None):
    return ServiceSpeaker(ServiceRef(url=service.url, model="m"), report or Notes())


def answers(speaker, *texts, done=None):
    return speaker.replies([[user(text)] for text in texts], GREEDY, (done if done is not None else []).append)


def test_answers_come_in_order_from_several_threads():
    def slow_first(body):
        time.sleep(0.2 if last(body) == "0" else 0.01)
        return f"答{last(body)}"

    done = []
    with chat_service(slow_first) as service:
        said = answers(speaker_at(service), *map(str, range(20)), done=done)
    assert said == [f"答{n}" for n in range(20)]
    assert done == list(range(1, 21))
    assert 1 < service.busiest <= THREADS


def test_all_that_was_said_and_how_to_sample_is_sent():
    prompt = [
        Message(role="system", content="你是医生"),
        user("头疼"),
        Message(role="assistant", content="多久了？"),
        user("三天"),
    ]
    with chat_service(lambda body: "好") as service:
        assert speaker_at(service).replies([prompt], GREEDY, lambda done: None) == ["好"]
    [body] = service.bodies
    assert [(row["role"], row["content"]) for row in body["messages"]] == [(m.role, m.content) for m in prompt]
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0.0, 0.9, 7, 5)
    assert body["model"] == "m"


def test_a_reply_comes_in_pieces():
    with chat_service(lambda body: "多喝水") as service:
        pieces = speaker_at(service).reply([user("感冒")], GREEDY)
        assert next(pieces) == "多"
        assert list(pieces) == ["喝", "水"]
    assert service.bodies[0]["stream"] is True
    assert service.bodies[0]["temperature"] == 0


def test_a_question_that_is_refused_costs_only_itself():
    def script(body):
        if last(body) == "b":
            return Fault(400, "maximum context length is 2048 tokens")
        return filtered() if last(body) == "c" else "好"

    report = Notes()
    with chat_service(script) as service:
        speaker = speaker_at(service, report)
        assert answers(speaker, "a", "b", "c", "d") == ["好", "", "", "好"]
        assert list(speaker.reply([user("b")], GREEDY)) == []
    assert "maximum context length" in speaker.refusals[(user("b"),)]
    assert speaker.refusals[(user("c"),)] == "content_filter"
    [note] = report.notes  # the first one is told, the others are counted
    assert "refuses a question, whose answer is left empty" in note


def test_a_service_that_refuses_everything_is_not_failed_but_named():
    refusing = Fault(400, "temperature must be above 0")
    with chat_service(lambda body: refusing) as service, pytest.raises(ServiceError, match="must be above 0") as error:
        answers(speaker_at(service), "a", "b")
    assert "even a greeting" in error.value.message
    assert {row["content"] for body in service.bodies for row in body["messages"]} <= {"a", "b", "你好"}


def test_a_system_message_that_a_service_does_not_take_is_found():
    def no_system(body):
        return Fault(400, "system role not supported") if body["messages"][0]["role"] == "system" else "好"

    prompt = [Message(role="system", content="你是医生"), user("头疼")]
    with chat_service(no_system) as service, pytest.raises(ServiceError, match="system role not supported"):
        speaker_at(service).replies([prompt], GREEDY, lambda done: None)


@pytest.mark.parametrize("status", [400, 422])
def test_a_service_that_knows_no_seed_is_asked_without(status):
    def no_seed(body):
        return Fault(status, "Unrecognized argument: 'seed'") if "seed" in body else "好"

    report = Notes()
    with chat_service(no_seed) as service:
        speaker = speaker_at(service, report)
        assert answers(speaker, *map(str, range(20))) == ["好"] * 20
        before = len(service.bodies)
        assert answers(speaker, "x", "y") == ["好"] * 2
        assert [body.get("seed") for body in service.bodies[before:]] == [None, None]
    assert before <= 20 + THREADS
    assert [note for note in report.notes if "knows no seed" in note] == report.notes
    assert len(report.notes) == 1
    with chat_service(no_seed) as service:
        assert "".join(speaker_at(service).reply([user("感冒")], GREEDY)) == "好"


def test_a_question_about_seeds_that_is_refused_does_not_cost_the_seed():
    def script(body):
        return Fault(400, f"bad word in: {last(body)}") if "poppy seed" in last(body) else "好"

    report = Notes()
    with chat_service(script) as service:
        speaker = speaker_at(service, report)
        assert answers(speaker, "a", "poppy seed", "b") == ["好", "", "好"]
        answers(speaker, "c")
        assert service.bodies[-1]["seed"] == 5


@pytest.mark.parametrize(
    ("status", "said"), [(401, "refuses the key"), (403, "refuses the key"), (404, "no such address or model 'm'")]
)
def test_faults_that_stay_end_the_exam(status, said):
    with chat_service(lambda body: Fault(status)) as service:
        with pytest.raises(ServiceError, match=said):
            answers(speaker_at(service), "a", "b")
        with pytest.raises(ServiceError, match=said):
            list(speaker_at(service).reply([user("a")], GREEDY))


def test_a_service_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(completions, "RETRIES", 0)  # else it is tried for a quarter of a minute
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    speaker = ServiceSpeaker(ServiceRef(url=url, model="m"), Notes())
    with pytest.raises(ServiceError, match="cannot be reached") as error:
        answers(speaker, "a")
    assert "run the same command again" in error.value.hint


@pytest.mark.parametrize(
    "raw", [Raw(b"<html>welcome</html>", "text/html"), Raw(b'{"choices": [', "application/json")], ids=["page", "cut"]
)
def test_what_is_no_such_service_is_told(raw):
    with chat_service(lambda body: raw) as service:
        with pytest.raises(ServiceError, match="does not answer as OpenAI's"):
            answers(speaker_at(service), "a")
        with pytest.raises(ServiceError, match="does not answer as OpenAI's"):
            list(speaker_at(service).reply([user("a")], GREEDY))


def test_a_stream_that_breaks_off_is_an_error_and_not_an_answer():
    first = b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "A"}}]}\n\n'
    with chat_service(lambda body: Raw(first, "text/event-stream", missing=100)) as service:
        pieces = speaker_at(service).reply([user("a")], GREEDY)
        assert next(pieces) == "A"
        with pytest.raises(ServiceError, match="cannot be reached"):
            next(pieces)


def test_half_a_character_can_be_written_down():
    with chat_service(lambda body: "好\ud83d") as service:
        [said] = answers(speaker_at(service), "a")
    assert said.encode("utf-8").decode("utf-8") == "好?"


def test_an_answer_without_choices_is_a_refusal():
    def script(body):
        return Raw(b'{"error": {"message": "flagged"}}') if last(body) == "b" else "好"

    with chat_service(script) as service:
        speaker = speaker_at(service)
        assert answers(speaker, "a", "b") == ["好", ""]
    assert "flagged" in speaker.refusals[(user("b"),)]


def told(speaker, *texts, **how):
    """Text, ending, tokens of question and answer, and problem of each answer, by its question."""
    each = [replace(GREEDY, **how, seed=seed) for seed in range(len(texts))]
    found = dict(speaker.answers([[user(text)] for text in texts], each))
    return {texts[at]: (one.text, one.finish, one.prompt_tokens, one.tokens, one.problem) for at, one in found.items()}


def finished(text, reason, usage=None):
    """An answer that ended for a reason."""
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}
    row = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return Raw(json.dumps(row | ({"usage": usage} if usage else {})).encode())


def test_answers_say_how_they_ended_and_what_they_took():
    used = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
    answers = {
        "a": "好",
        "b": finished("多喝", "length", used),
        "c": filtered(),
        "d": finished("这是", "content_filter"),
        "e": Fault(400, "maximum context length is 2048 tokens"),
    }
    with chat_service(lambda body: answers[last(body)]) as service:
        found = told(speaker_at(service), *answers)
    assert "maximum context length" in found.pop("e")[4]
    assert found == {
        "a": ("好", "stop", None, None, ""),
        "b": ("多喝", "length", 3, 7, ""),
        "c": ("", "refused", None, None, "content_filter"),
        "d": ("这是", "refused", None, None, "the answer breaks off: content_filter"),
    }


def test_answers_come_as_they_are_there_each_with_its_own_seed():
    def slow_first(body):
        time.sleep(0.3 if last(body) == "0" else 0.001)
        return f"答{last(body)}"

    with chat_service(slow_first) as service:
        found = speaker_at(service).answers([[user(str(n))] for n in range(9)], [GREEDY] * 9)
        order = [number for number, _ in found]
        told(speaker_at(service), *"abc")
    assert sorted(order) == list(range(9))
    assert order[-1] == 0
    assert {(last(body), body["seed"]) for body in service.bodies[-3:]} == {("a", 0), ("b", 1), ("c", 2)}


def test_what_nobody_waits_for_is_not_asked():
    def slow(body):
        time.sleep(0.05)
        return "好"

    with chat_service(slow) as service:
        found = speaker_at(service).answers([[user(str(n))] for n in range(100)], [GREEDY] * 100)
        next(found)
        found.close()
        assert len(service.bodies) <= 3 * THREADS


def test_only_settings_that_change_something_are_sent():
    with chat_service(lambda body: "好") as service:
        speaker = speaker_at(service)
        told(speaker, "a")
        told(speaker, "a", top_k=5, repetition_penalty=1.2, stop=("。",), frequency_penalty=0.5, presence_penalty=0.1)
    plain, full = ({name for name in body if name != "messages"} for body in service.bodies)
    assert plain == {"model", "temperature", "top_p", "max_tokens", "seed"}
    assert full - plain == {"top_k", "repetition_penalty", "stop", "frequency_penalty", "presence_penalty"}
    assert (service.bodies[1]["stop"], service.bodies[1]["top_k"]) == (["。"], 5)
