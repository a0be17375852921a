"""Many people are answered at once as each would be alone; who leaves frees a place, and nobody waits for ever."""

import threading
import time
from queue import Queue

import pytest
import torch

from medcli.core.errors import UnknownNameError, UsageError
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.serving import Busy, Closing, Failure, Piece, Request
from medcli.core.speaker import Answer, Sampling
from medcli.engine.scheduler import LocalScheduler
from medcli.engine.speaker import LocalSpeaker
from medcli.engine.voices import Voice
from tests import tiny_model

QUESTIONS = [f"{name}的症状有哪些？" for name in ("头痛", "痛风", "高血压", "糖尿病", "感冒", "胃炎", "哮喘", "贫血")]
GREEDY = Sampling(max_tokens=24)
ENDLESS = Sampling(max_tokens=400, temperature=3.0)


@pytest.fixture(scope="module")
def loaded(tiny_folder):
    return tiny_model.loaded(tiny_folder)


@pytest.fixture
def serving(loaded):
    """`serving(slots=2, waiting=1)` begins to take requests."""
    open_ones = []

    def start(slots=4, waiting=16, model=loaded):
        voices = {"tiny": Voice(loaded=model, begin=lambda: None)}
        open_ones.append(LocalScheduler(voices, slots=slots, waiting=waiting, report=Silent()))
        return open_ones[-1]

    yield start
    for scheduler in open_ones:
        scheduler.close(0)


def ask(text):
    return (Message(role="user", content=text),)


def request(text, sampling=GREEDY, **given):
    return Request(model="tiny", prompt=ask(text), sampling=sampling, **given)


def whole(heard):
    """All that is heard up to the end."""
    found = []
    while not found or isinstance(found[-1], Piece):
        found.append(heard.get(timeout=30))
    return found


def answered(scheduler, *requests):
    queues = [Queue() for _ in requests]
    for one, heard in zip(requests, queues, strict=True):
        scheduler.submit(one, heard.put)
    return [whole(heard) for heard in queues]


def until(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_answers_made_together_are_those_made_alone(serving, loaded):
    alone = [next(LocalSpeaker(loaded).answers([ask(text)], [GREEDY]))[1] for text in QUESTIONS]
    found = answered(serving(slots=3), *map(request, QUESTIONS))
    assert [parts[-1] for parts in found] == alone
    assert ["".join(piece.text for piece in parts[:-1]) for parts in found] == [answer.text for answer in alone]
    assert all(isinstance(piece, Piece) and "\ufffd" not in piece.text for parts in found for piece in parts[:-1])


def test_one_who_leaves_frees_a_place_at_once(serving):
    scheduler = serving(slots=1)
    heard: Queue = Queue()
    endless = scheduler.submit(request("头痛", ENDLESS), heard.put)
    heard.get(timeout=30)
    endless.cancel()
    (next_one,) = answered(scheduler, request("痛风"))
    assert isinstance(next_one[-1], Answer)
    until(lambda: scheduler.load().running == 0)
    time.sleep(0.05)
    while not heard.empty():
        assert isinstance(heard.get(), Piece)  # what was on its way; no Answer follows


def test_a_place_in_the_queue_is_given_back_too(serving):
    scheduler = serving(slots=1, waiting=1)
    running = scheduler.submit(request("头痛", ENDLESS), lambda heard: None)
    until(lambda: scheduler.load().running == 1)
    waiting = scheduler.submit(request("痛风"), lambda heard: None)
    with pytest.raises(Busy) as busy:
        scheduler.submit(request("感冒"), lambda heard: None)
    assert 1 <= busy.value.retry_after <= 60
    waiting.cancel()
    until(lambda: scheduler.load().waiting == 0)
    scheduler.submit(request("感冒"), lambda heard: None)
    running.cancel()


def test_what_was_begun_is_ended_when_the_server_closes(serving):
    scheduler = serving()
    heard: Queue = Queue()
    scheduler.submit(request("头痛"), heard.put)
    started = time.monotonic()
    scheduler.close(20)
    assert time.monotonic() - started < 15  # no longer than the answer takes
    assert isinstance(whole(heard)[-1], Answer)
    with pytest.raises(Closing):
        scheduler.submit(request("痛风"), heard.put)


def test_patience_has_an_end(serving):
    scheduler = serving(slots=1)
    running, waiting = Queue(), Queue()
    scheduler.submit(request("头痛", Sampling(max_tokens=490, temperature=5.0)), running.put)
    scheduler.submit(request("痛风"), waiting.put)
    scheduler.close(0)
    assert isinstance(whole(running)[-1], Failure)
    assert isinstance(whole(waiting)[-1], Failure)


def test_chances_are_those_of_the_model(serving, loaded):
    (parts,) = answered(serving(), Request(model="tiny", prompt="高血压患者应", sampling=GREEDY, chances=3))
    spoken = [chance for piece in parts[:-1] for chance in piece.chances]
    assert len(spoken) == parts[-1].tokens
    raw = b"".join(chance.raw for chance in spoken if not chance.text.startswith("<|"))
    assert raw.decode("utf-8", "replace").rstrip("\ufffd") == parts[-1].text
    ids = loaded.tokenizer("高血压患者应")["input_ids"]
    with torch.no_grad():
        likely = loaded.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    assert spoken[0].log_probability == pytest.approx(float(likely.max()), abs=1e-4)
    assert [value for *_, value in spoken[0].others] == pytest.approx(likely.topk(3).values.tolist(), abs=1e-4)


def test_a_text_is_continued_as_it_stands(serving, loaded):
    asked = Request(model="tiny", prompt="高血压患者应", sampling=GREEDY)
    (parts,) = answered(serving(), asked)
    ids = loaded.tokenizer("高血压患者应")["input_ids"]
    out = loaded.model.generate(
        torch.tensor([ids]), max_new_tokens=24, do_sample=False, eos_token_id=list(loaded.stops)
    )
    expected = loaded.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
    assert parts[-1].text == expected.rstrip("\ufffd")
    assert parts[-1].prompt_tokens == len(ids)


def test_a_wrong_request_is_refused_before_it_waits(serving):
    scheduler = serving()
    with pytest.raises(UsageError, match="reads at most 512"):
        scheduler.submit(request("长" * 3000), print)
    with pytest.raises(UnknownNameError, match="tinny"):
        scheduler.submit(Request(model="tinny", prompt=ask("头痛"), sampling=GREEDY), print)
    with pytest.raises(UsageError, match="empty"):
        scheduler.submit(Request(model="tiny", prompt="", sampling=GREEDY), print)


class Breaking(torch.nn.Module):
    """A head that fails once."""

    def __init__(self, head):
        super().__init__()
        self.head, self.broken = head, True

    def forward(self, hidden):
        if self.broken:
            self.broken = False
            raise RuntimeError("no memory is left\nmore")
        return self.head(hidden)


def test_a_failing_step_is_told_and_the_next_request_is_answered(serving, tiny_folder):
    loaded = tiny_model.loaded(tiny_folder)
    loaded.model.lm_head = Breaking(loaded.model.lm_head)
    scheduler = serving(model=loaded)
    (parts,) = answered(scheduler, request("头痛"))
    assert parts == [Failure(problem="RuntimeError: no memory is left")]
    (parts,) = answered(scheduler, request("头痛"))
    assert isinstance(parts[-1], Answer)
    assert scheduler.load().running == 0


def test_requests_from_many_threads_are_all_answered_with_their_own(serving, loaded):
    scheduler = serving(slots=4, waiting=100)
    alone = LocalSpeaker(loaded).replies([ask(text) for text in QUESTIONS], GREEDY, lambda done: None)
    wrong = []

    def client(number):
        for turn in range(4):
            place = (number + turn) % len(QUESTIONS)
            (parts,) = answered(scheduler, request(QUESTIONS[place]))
            if parts[-1].text != alone[place]:
                wrong.append((number, turn))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    load = scheduler.load()
    assert (load.running, load.waiting) == (0, 0)
    assert load.said > 0
    assert load.reused > 0
