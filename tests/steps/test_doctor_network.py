"""Hubs that answer, refuse, hang, or are not there."""

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from medcli.steps.doctor_network import Asked, Hub, hubs, network_findings


@contextmanager
def server(status):
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            return None

    served = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{served.server_port}"
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


def found(*asked):
    return list(network_findings(Asked(asked)))


@pytest.mark.parametrize("status", [200, 403, 404])
def test_a_hub_that_answers_at_all_is_reached(status):
    with server(status) as url:
        (finding,) = found(Hub(url=url, main=True))
    assert finding.state == "ok"
    assert url in finding.message


def test_the_mirror_is_the_way_out_when_it_can_be_reached(nobody):
    with server(200) as mirror:
        first, second = found(Hub(url=nobody, main=True), Hub(url=mirror, mirrors=True))
    assert (first.state, first.hint) == ("warning", f"export HF_ENDPOINT={mirror}")
    assert second.state == "ok"


@pytest.mark.parametrize("status", [407, 502])
def test_what_a_proxy_answers_is_no_hub(status):
    with server(status) as proxy, server(200) as other:
        finding, _ = found(Hub(url=proxy, main=True), Hub(url=other))
    assert finding.state == "warning"
    assert str(status) in finding.message


def test_no_network_is_said_once_and_is_no_error(nobody):
    (finding,) = found(Hub(url=nobody, main=True), Hub(url="file:///etc/passwd"))
    assert finding.state == "warning"
    assert "works offline" in finding.message


def test_a_hub_that_hangs_is_not_waited_for():
    with socket.socket() as silent, server(200) as other:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        first, second = found(Hub(url=f"http://127.0.0.1:{silent.getsockname()[1]}", main=True), Hub(url=other))
    assert time.monotonic() - began < 4
    assert (first.state, second.state) == ("warning", "ok")


def test_the_endpoint_of_the_environment_is_asked_first_and_once(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hf-mirror.com/")
    first, *others = hubs()
    assert (first.url, first.main) == ("https://hf-mirror.com", True)
    assert [hub.url for hub in others] == ["https://modelscope.cn"]
