"""Who asks a model that is still being opened waits for it; who asks one that does not open hears why."""

import threading

import pytest

from medcli.core.errors import ModelError
from medcli.core.record import Message
from medcli.core.speaker import Answer, Sampling
from medcli.steps.awaited import Awaited, NotOpened

ASKED = [Message(role="user", content="头痛")]


class Doctor:
    """A speaker that tells how its answer ended."""

    context = 512

    def reply(self, messages, sampling):
        yield "多喝水"
        return Answer(text="多喝水", finish="length")

    def replies(self, prompts, sampling, advance):
        return ["好"] * len(prompts)


def whole(reply):
    pieces = []
    while True:
        try:
            pieces.append(next(reply))
        except StopIteration as end:
            return "".join(pieces), end.value


def test_a_question_waits_for_the_model():
    door, notes = threading.Event(), []

    def opening():
        assert door.wait(20)
        return Doctor()

    awaited = Awaited(opening, lambda text: (notes.append(text), door.set()))
    assert whole(awaited.reply(ASKED, Sampling())) == ("多喝水", Answer(text="多喝水", finish="length"))
    assert notes == ["the model is still being loaded …"]
    assert awaited.replies([ASKED], Sampling(), print) == ["好"]
    assert awaited.context == 512
    assert len(notes) == 1


def test_a_speaker_that_tells_nothing_of_the_end_is_heard_too():
    class Plain:
        def reply(self, messages, sampling):
            return iter(["好", "的"])

    awaited = Awaited(Plain, print)
    assert whole(awaited.reply(ASKED, Sampling())) == ("好的", None)
    assert awaited.context is None


def test_why_it_did_not_open_is_heard():
    def opening():
        raise ModelError("the weights are damaged", hint="copy them again")

    awaited = Awaited(opening, lambda text: None)
    with pytest.raises(NotOpened) as lost:
        whole(awaited.reply(ASKED, Sampling()))
    assert lost.value.reason.hint == "copy them again"
