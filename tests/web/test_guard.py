"""Who may ask, from where, how often, and how much."""

import socket
import time

import httpx
import openai
import pytest

from medcli.web.keys import Keys, RateLimit
from tests.web.fake_scheduler import FakeScheduler
from tests.web.serving import running

BODY = {"messages": [{"role": "user", "content": "头痛"}]}
KEYS = ("first-key", "second-key")


@pytest.fixture(scope="module")
def keyed():
    with running(FakeScheduler(), KEYS) as server:
        yield server


@pytest.fixture(scope="module")
def free():
    with running(FakeScheduler(), longest_read=0.3, largest_body=1000) as server:
        yield server


def ask(server, **headers):
    return httpx.post(f"{server.url}/v1/chat/completions", json=BODY, headers=headers)


def test_each_key_opens_and_nothing_else_does(keyed):
    assert [ask(keyed, Authorization=f"Bearer {key}").status_code for key in KEYS] == [200, 200]
    for shown in ("Bearer other", "Bearer", "first-key", "Basic first-key", "Bearer first-key2", "Bearer \xe4"):
        assert httpx.post(
            f"{keyed.url}/v1/chat/completions", json=BODY, headers={"Authorization": shown.encode("latin-1")}
        ).status_code == 401  # fmt: skip
    answer = ask(keyed)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_everything_but_health_needs_the_key(keyed):
    paths = ("/v1/models", "/v1/models/echo", "/metrics", "/openapi.json", "/v1/none", "/health")
    assert [httpx.get(keyed.url + path).status_code for path in paths] == [401] * 5 + [200]


def test_the_client_knows_a_wrong_key(keyed):
    client = openai.OpenAI(base_url=f"{keyed.url}/v1", api_key="other", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_keys_are_kept_as_digests_only():
    keys = Keys(KEYS)
    assert [keys.number_of(key) for key in (*KEYS, "other", "")] == [0, 1, None, None]
    assert "first" not in repr(vars(keys))


def test_a_name_that_was_made_to_point_here_is_refused(free):
    assert ask(free, Host="evil.example").status_code == 403
    assert ask(free, Host=f"localhost.evil.example:{free.port}").status_code == 403
    for host in ("localhost", f"127.0.0.1:{free.port}", "[::1]:80", "LOCALHOST:1"):
        assert ask(free, Host=host).status_code == 200


def test_with_a_key_any_name_will_do(keyed):
    assert ask(keyed, Host="clinic.example", Authorization="Bearer first-key").status_code == 200


def test_pages_elsewhere_may_ask_only_where_that_was_said(free):
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in httpx.options(f"{free.url}/v1/models", headers=asked).headers
    with running(FakeScheduler(), KEYS, cors_origin=("https://a.example",)) as server:
        allowed = httpx.options(f"{server.url}/v1/chat/completions", headers=asked)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://a.example")
        other = httpx.options(f"{server.url}/v1/models", headers=asked | {"Origin": "https://b.example"})
        assert other.status_code == 400
        refused = ask(server, Origin="https://a.example")
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://a.example")


def test_a_key_s_requests_are_counted():
    with running(FakeScheduler(), KEYS, rate_limit=2) as server:
        first = [ask(server, Authorization="Bearer first-key") for _ in range(3)]
        assert [answer.status_code for answer in first] == [200, 200, 429]
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in first] == ["1", "0", "0"]
        assert 1 <= int(first[2].headers["retry-after"]) <= 30
        assert first[2].json()["error"]["type"] == "rate_limit_error"
        assert ask(server, Authorization="Bearer second-key").status_code == 200
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="first-key", max_retries=0) as client:
            client.models.list()
            with pytest.raises(openai.RateLimitError):
                client.completions.create(model="echo", prompt="x")


def test_requests_come_back_steadily():
    now = [0.0]
    limit = RateLimit(6, clock=lambda: now[0])
    assert [limit.take(0).granted for _ in range(7)] == [True] * 6 + [False]
    assert (limit.take(0).next_after, limit.take(0).full_after) == (10, 60)
    now[0] = 10.0
    assert [limit.take(0).granted, limit.take(0).granted] == [True, False]
    now[0] = 1000.0
    assert sum(limit.take(0).granted for _ in range(10)) == 6


def test_a_body_is_read_no_further_than_allowed(free):
    large = b'{"messages": [' + b" " * 1000
    assert httpx.post(f"{free.url}/v1/completions", content=large).status_code == 413
    answer = httpx.post(f"{free.url}/v1/completions", content=(large[n : n + 100] for n in range(0, len(large), 100)))
    assert "transfer-encoding" in answer.request.headers
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_a_body_that_lies_about_its_length_is_no_way_around(free):
    said = raw(free, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{")
    assert said.startswith(b"HTTP/1.1 413")


def test_a_slow_body_is_not_waited_for(free):
    begun = time.monotonic()
    said = raw(free, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert said.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in said.lower()
    assert 0.3 <= time.monotonic() - begun < 3


def raw(server, content):
    """What is answered to bytes, until the connection is closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(content)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "content",
    [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000 + b"\r\n\r\n"],
    ids=["TLS", "no path", "another version", "a long line"],
)
def test_what_is_not_http_is_no_defect(free, content):
    said = raw(free, content + b"\r\n\r\n")
    assert said == b"" or said.startswith(b"HTTP/1.1 4")
    assert httpx.get(f"{free.url}/health").status_code == 200


def test_nothing_speaks_websocket(free):
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
    said = raw(free, head + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 404")
