"""A server that is told to stop ends what it has begun, takes nothing new, and says so by its exit code."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def start():
    """`start(patience)` gives a running server's process and its port."""
    begun = []

    def run(patience):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.web.slow_server", str(patience)], cwd=ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return process, int(process.stdout.readline().rpartition(":")[2].partition("/")[0])

    yield run
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


def stream(port, length):
    """A connection on which an answer of so many characters is being said, after its first pieces."""
    body = json.dumps({"prompt": "x" * length, "stream": True}).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    return connection


def rest_of(connection):
    parts = []
    with connection:
        while part := received(connection):
            parts.append(part)
            if b"[DONE]" in part:
                break
    return b"".join(parts)


def received(connection):
    """What comes next; nothing when the server has closed the connection, or cut it."""
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_answers_end(start, number):
    process, port = start(20)
    connection = stream(port, 80)
    os.kill(process.pid, number)
    time.sleep(0.2)
    health = httpx.get(f"http://127.0.0.1:{port}/health")
    assert (health.status_code, health.json()) == (503, {"status": "closing"})
    assert httpx.post(f"http://127.0.0.1:{port}/v1/completions", json={"prompt": "x"}).status_code == 503
    assert b"data: [DONE]" in rest_of(connection)
    assert process.wait(10) == 0
    assert "everything that was asked is answered" in process.stderr.read()


def test_patience_ends(start):
    process, port = start(0.3)
    connection = stream(port, 900)
    begun = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    assert b"[DONE]" not in rest_of(connection)
    assert process.wait(15) == 0
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_cuts(start, number, code):
    process, port = start(60)
    connection = stream(port, 900)
    os.kill(process.pid, number)
    time.sleep(0.3)
    begun = time.monotonic()
    os.kill(process.pid, number)
    assert process.wait(10) == code
    assert time.monotonic() - begun < 3
    connection.close()


def test_an_idle_server_stops_at_once(start):
    process, _ = start(60)
    begun = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - begun < 3
