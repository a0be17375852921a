"""Rewards over HTTP: asked in batches, tried again when that may help, refused when they are no rewards."""

import json
from dataclasses import dataclass, field

import pytest

from medcli.core.errors import ServiceError, UsageError
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.engine.reward_service import BATCH, ServiceRewarder, open_reward_service
from tests.engine.reward_server import serving


@dataclass
class Notes(Silent):
    notes: list[str] = field(default_factory=list)

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def service():
    with serving() as running:
        yield running


def dialogues(count):
    return [
        (Message(role="user", content="头痛怎么办？"), Message(role="assistant", content="好" * n))
        for n in range(count)
    ]


def rewards(service, count=2, waits=()):
    return ServiceRewarder(address=service.address, waits=waits).rewards(dialogues(count), lambda done: None)


def test_dialogues_go_in_batches_and_rewards_come_in_order(service):
    done = []
    found = ServiceRewarder(address=service.address).rewards(dialogues(2 * BATCH + 3), done.append)
    assert found == [float(n) for n in range(2 * BATCH + 3)]
    assert done == [BATCH, 2 * BATCH, 2 * BATCH + 3]
    assert [len(asked["messages"]) for asked in service.asked] == [BATCH, BATCH, 3]
    expected = [{"role": "user", "content": "头痛怎么办？"}, {"role": "assistant", "content": "好"}]
    assert service.asked[0]["model"] == "reward"
    assert service.asked[0]["messages"][1] == expected


def test_the_key_goes_along(service, monkeypatch):
    monkeypatch.setenv("MED_API_KEY", "secret")
    rewards(service)
    assert service.keys == ["Bearer secret"]


def test_opening_asks_once_and_says_what_came(service):
    report = Notes()
    rewarder = open_reward_service(service.address, report)
    assert len(service.asked) == 1
    assert report.notes == [f"{service.address} rewards answers: 11.000 for a greeting"]
    assert rewarder.rewards(dialogues(2), lambda done: None) == [0.0, 1.0]


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://localhost/score", "file:///etc/hosts", "http://"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="no address"):
        open_reward_service(address, Silent())


def test_a_wrong_port_fails_at_once():
    with serving() as service:
        gone = service.address
    with pytest.raises(ServiceError, match="cannot be reached") as caught:
        open_reward_service(gone, Silent())
    assert "--resume" in caught.value.hint


def test_what_may_pass_is_tried_again(service):
    service.instead = [(503, b"starting"), None, (429, b"slowly")]
    assert rewards(service, waits=(0.01, 0.01, 0.01)) == [0.0, 1.0]
    assert len(service.asked) == 4


def test_it_gives_up_in_the_end(service):
    service.instead = [(500, b"no memory")] * 2
    with pytest.raises(ServiceError, match="answered 500 Internal Server Error: no memory"):
        rewards(service, waits=(0.01,))
    service.instead = [None, None]
    with pytest.raises(ServiceError, match="cannot be reached"):
        rewards(service, waits=(0.01,))


@pytest.mark.parametrize(("status", "hint"), [(401, "MED_API_KEY"), (404, "path"), (422, "logged")])
def test_a_refusal_is_not_tried_again(service, status, hint):
    service.instead = [(status, "因为".encode())]
    with pytest.raises(ServiceError, match=f"answered {status} .*因为") as caught:
        rewards(service, waits=(0.01,))
    assert hint in caught.value.hint
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (b"<html>log in</html>", "not JSON: <html>"),
        (b"\xff", "not JSON"),
        (b'["scores"]', r'no list of scores: \["scores"\]'),
        (json.dumps({"rewards": [1, 2]}).encode(), "no list of scores"),
        (b'{"scores": 1}', "no list of scores"),
        (b'{"scores": [1]}', "1 scores for 2 dialogues"),
        (b'{"scores": [1, NaN]}', "a score is NaN"),
        (b'{"scores": [1, Infinity]}', "a score is Infinity"),
        (b'{"scores": [1, null]}', "a score is null"),
        (b'{"scores": [1, true]}', "a score is true"),
        (b'{"scores": [1, [2]]}', r"a score is \[2\]"),
    ],
)
def test_what_is_no_reward_is_named(service, said, named):
    service.instead = [(200, said)]
    with pytest.raises(ServiceError, match=named) as caught:
        rewards(service, waits=(0.01,))
    assert "one finite number" in caught.value.hint
