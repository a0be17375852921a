"""The service is asked at its pace, within the limit, again after passing faults, and never twice the same."""

import time

import pytest

from medcli.core.errors import ServiceError
from medcli.core.llm_settings import LlmSettings
from medcli.core.report import Silent
from medcli.engine.endpoint import LONGEST, Endpoint
from tests.building import Notes
from tests.makers.service import Fault, serving


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("MED_API_KEY", "OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def asked(service, prompts, folder, report=None, **given):
    settings = LlmSettings(llm=service.url, llm_model="m", **given)
    with Endpoint(settings, folder / "answers.jsonl", report or Silent()) as endpoint:
        return [reply.text or reply.reason for reply in endpoint.ask(prompts)], endpoint


def echo(prompt, times):
    return f"答{prompt}"


def test_answers_come_in_the_order_of_the_questions(tmp_path):
    def slow_first(prompt, times):
        time.sleep(0.2 if prompt == "0" else 0)
        return f"答{prompt}"

    with serving(slow_first) as service:
        said, endpoint = asked(service, [str(n) for n in range(12)], tmp_path, concurrency=4)
    assert said == [f"答{n}" for n in range(12)]
    assert endpoint.calls == 12
    assert endpoint.tokens == sum(len(str(n)) * 2 + 1 for n in range(12))
    assert 1 < service.busiest <= 4


def test_passing_faults_are_tried_again(tmp_path):
    faults = {"a": [Fault(429, {"Retry-After": "0.3"})], "b": [Fault(500), Fault(503)]}

    def script(prompt, times):
        return faults[prompt][times] if times < len(faults.get(prompt, [])) else f"答{prompt}"

    with serving(script) as service:
        said, _ = asked(service, ["a", "b", "c"], tmp_path)
    assert said == ["答a", "答b", "答c"]
    assert sorted(service.asked) == ["a", "a", "b", "b", "b", "c"]
    first, second = (at for prompt, at in zip(service.asked, service.times, strict=True) if prompt == "a")
    assert second - first >= 0.3


def test_what_is_answered_is_not_asked_again(tmp_path):
    def fails_late(prompt, times):
        return Fault(401) if prompt == "3" else f"答{prompt}"

    with serving(fails_late) as service:
        with pytest.raises(ServiceError, match="refuses the key"):
            asked(service, ["0", "1", "2", "3", "4"], tmp_path, concurrency=1)
        service.script = echo
        with (tmp_path / "answers.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"key": "a line that a kill broke off')
        before = [prompt for prompt in service.asked if prompt != "3"]
        said, endpoint = asked(service, ["0", "1", "2", "3", "4"], tmp_path, concurrency=1)
        assert said == ["答0", "答1", "答2", "答3", "答4"]
        assert endpoint.from_cache == len(before) >= 3
        assert sorted(prompt for prompt in service.asked if prompt != "3") == ["0", "1", "2", "4"]
        asked(service, ["4", "3"], tmp_path)  # the line that was broken off has cost nothing that came after it
        assert service.asked.count("4") == 1
        assert service.asked.count("3") == 2  # once refused, once answered


def test_the_pace_is_kept_by_all_threads_and_retries(tmp_path):
    with serving(lambda prompt, times: Fault(500, {"Retry-After": "0.01"}) if times == 0 else prompt) as service:
        asked(service, ["0", "1", "2"], tmp_path, concurrency=3, requests_per_minute=600)
    assert len(service.times) == 6
    assert max(service.times) - min(service.times) >= 0.45


def test_the_limit_on_tokens_is_never_passed(tmp_path):
    report = Notes()
    with serving(lambda prompt, times: "字" * 2000) as service:
        limit = 3 * LONGEST
        said, endpoint = asked(service, [str(n) for n in range(9)], tmp_path, report, max_tokens_total=limit)
    assert 0 < endpoint.tokens <= limit
    assert said.count("--max-tokens-total is reached") == 9 - endpoint.calls > 0
    assert f"{endpoint.tokens:,} tokens" in report.notes[-1]


def test_a_question_that_is_refused_costs_only_itself(tmp_path):
    with serving(lambda prompt, times: Fault(400) if prompt == "b" else "" if prompt == "c" else "好") as service:
        said, _ = asked(service, ["a", "b", "c"], tmp_path)
    assert said[0] == "好"
    assert said[1].startswith("the service refuses the question: ")
    assert said[2] == "the service gave an empty answer"


@pytest.mark.parametrize(("status", "said"), [(404, "knows no such address or model"), (403, "refuses the key")])
def test_faults_that_stay_are_told(tmp_path, status, said):
    with serving(lambda prompt, times: Fault(status)) as service, pytest.raises(ServiceError, match=said):
        asked(service, ["a"], tmp_path)


def test_the_key_comes_from_the_environment_and_is_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MED_API_KEY", "very-secret")
    with serving(echo) as service:
        asked(service, ["a"], tmp_path)
    assert service.keys == {"Bearer very-secret"}
    assert "very-secret" not in (tmp_path / "answers.jsonl").read_text("utf-8")
