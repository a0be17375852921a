"""A crowd of clients leaves a server as it was, and each of them hears its own answer and nobody else's."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine.scheduler import open_scheduler
from tests.web import crowd
from tests.web.fake_scheduler import FakeScheduler
from tests.web.serving import running

ILLNESSES = ("头痛", "发热", "偏头痛", "咳嗽", "高血压", "胃炎")
ALLOWED = {200, 400, 404, 429}
LONG_MINUTE = 60.0  # seconds
MOST_GROWTH = 40  # MiB


def marker():
    """Questions that nobody else has, whose right answers are themselves."""
    numbers = itertools.count()

    def question(chance):
        text = f"{chance.choice(ILLNESSES)}-{next(numbers)}-{'长' * chance.randrange(30)}"
        return crowd.Question(body={"messages": [{"role": "user", "content": text}]}, answer=text)

    return question


def known(url, number):
    """Questions to a real model, whose right answers are what it says when nobody else asks."""
    found = []
    for seed in range(number):
        messages = [{"role": "user", "content": f"{ILLNESSES[seed % len(ILLNESSES)]}怎么办"}]
        body = {"messages": messages, "seed": seed, "temperature": 1.5, "max_tokens": 8 + seed % 24}
        said = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        found.append(crowd.Question(body=body, answer=said["choices"][0]["message"]["content"]))
    assert len({question.answer for question in found}) > number * 0.9
    return lambda chance: chance.choice(found)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_sixteen_clients_hear_their_own_answers():
    scheduler = FakeScheduler(pace=0.001, slots=8, places=4)
    with running(scheduler) as server:
        before = open_files()
        seen = crowd.visit(server.url, clients=16, seconds=1.5, question=marker())
        assert scheduler.idle()
        end = time.monotonic() + 5
        while open_files() > before and time.monotonic() < end:
            time.sleep(0.01)
        assert open_files() <= before
    assert seen.wrong == []
    assert seen.codes.keys() <= ALLOWED
    assert seen.answered > 5


def test_a_real_model_answers_each_as_if_it_were_alone(tiny_folder):
    refs = {"tiny": ModelRef(base=str(tiny_folder))}
    scheduler = open_scheduler(refs, device="cpu", slots=8, waiting=4, report=Silent())
    with running(scheduler) as server:
        seen = crowd.visit(server.url, clients=16, seconds=2.0, question=known(server.url, 12))
        end = time.monotonic() + 5
        while (scheduler.load().running or scheduler.load().waiting) and time.monotonic() < end:
            time.sleep(0.01)
        assert (scheduler.load().running, scheduler.load().waiting) == (0, 0)
        scheduler.close(0)
    assert seen.wrong == []
    assert seen.codes.keys() <= ALLOWED
    assert seen.answered > 5


@pytest.mark.slow
def test_sixty_four_clients_for_a_minute(tiny_folder, project):
    words = ["serve", str(tiny_folder), "--port", "0", "--no-page", "--slots", "16", "--waiting", "32"]
    process = subprocess.Popen(
        [sys.executable, "-m", "medcli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        url = process.stdout.readline().strip().removesuffix("/v1")
        question = known(url, 48)
        crowd.visit(url, clients=64, seconds=15.0, question=question)
        before = settled(url)
        seen = crowd.visit(url, clients=64, seconds=LONG_MINUTE, question=question)
        after = settled(url)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    print(seen.codes, seen.habits, before, after)
    assert seen.wrong == []
    assert seen.codes.keys() <= ALLOWED
    assert seen.answered > 500
    assert (after["med_running"], after["med_waiting"]) == (0, 0)
    assert after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"] < MOST_GROWTH * 2**20
    assert after["process_open_fds"] <= before["process_open_fds"] + 2
    assert "Traceback" not in said
    assert process.returncode == 0


def settled(url):
    """The figures of a server, once nothing is asked of it any more."""
    end = time.monotonic() + 10
    while True:
        text = httpx.get(f"{url}/metrics").text
        figures = {name: float(value) for name, value in re.findall(r"^(\w+) ([\d.e+]+)$", text, re.MULTILINE)}
        if not figures["med_running"] + figures["med_waiting"] or time.monotonic() > end:
            time.sleep(0.5)
            return figures
        time.sleep(0.05)
