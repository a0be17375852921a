import asyncio
from dataclasses import dataclass

from medcli.core.errors import UsageError
from medcli.core.record import Message
from medcli.core.serving import Busy
from medcli.core.speaker import Sampling
from medcli.web.page_answers import Desk, Wish, answered
from medcli.web.page_talk import Said, Talk
from tests.web.page_scheduler import PageScheduler, until

ONE = Wish(models=("med-a",), system="", sampling=Sampling(max_tokens=100))
TWO = Wish(models=("med-a", "med-b"), system="", sampling=Sampling())


def last_of(desk: Desk, question: str, wish: Wish = ONE) -> Talk:
    """The talk when all has been said."""

    async def listen() -> Talk:
        return [talk async for talk in answered(desk, Talk().asked(question, wish.sides), wish, "en")][-1]

    return asyncio.run(listen())


def test_both_sides_are_heard_to_their_ends():
    said = last_of(Desk(scheduler=PageScheduler()), "hello", TWO).turns[-1].said
    assert said == {side: Said(text=f"{model} says: hello", done=True) for side, model in enumerate(TWO.models)}


def test_a_side_that_is_refused_does_not_silence_the_other():
    class Half(PageScheduler):
        def submit(self, request, hear):
            if request.model == "med-a":
                raise Busy(7)
            return super().submit(request, hear)

    said = last_of(Desk(scheduler=Half()), "hello", TWO).turns[-1].said
    assert said[0] == Said(done=True, problem="Too many questions are waiting. Try again in 7 s.")
    assert said[1] == Said(text="med-b says: hello", done=True)


def test_closing_stops_the_models():
    scheduler = PageScheduler()

    async def leave() -> None:
        answers = answered(Desk(scheduler=scheduler), Talk().asked("wait", TWO.sides), TWO, "en")
        await anext(answers)
        await answers.aclose()

    asyncio.run(leave())
    assert until(lambda: scheduler.load().running == 0)
    assert [ticket.cancelled for ticket in scheduler.spoken] == [True, True]


def test_the_reader_is_looked_for_while_nothing_is_said():
    async def looks() -> bool:
        answers = answered(Desk(scheduler=PageScheduler()), Talk().asked("wait", ONE.sides), ONE, "en")
        async for talk in answers:
            if talk.turns[-1].said[0].text:
                break
        quiet = await asyncio.wait_for(anext(answers), 5)
        await answers.aclose()
        return quiet is talk

    assert asyncio.run(looks())


def test_the_time_limit_ends_an_answer_and_its_model():
    scheduler = PageScheduler()
    said = last_of(Desk(scheduler=scheduler, time_limit=0.3), "wait").turns[-1].said[0]
    assert said == Said(text="med-", done=True, remark="the time limit ends the answer here")
    assert scheduler.spoken[0].cancelled


@dataclass(frozen=True)
class Found:
    messages: tuple[Message, ...]
    passages: tuple[object, ...] = ()


def test_a_model_is_asked_with_passages_that_leave_room_for_its_answer():
    rooms = []

    def ground(messages, room):
        rooms.append(room)
        return Found(messages=(Message(role="user", content=f"passage; {messages[-1].content}"),))

    scheduler = PageScheduler()
    said = last_of(Desk(scheduler=scheduler, ground=ground), "hello").turns[-1].said[0]
    assert said == Said(text="med-a says: passage; hello", passages=(), done=True)
    assert 0 < rooms[0] < scheduler.context("med-a") - ONE.sampling.max_tokens


def test_asking_again_takes_another_seed():
    scheduler = PageScheduler()
    talk = Talk().asked("hello", ONE.sides).again(ONE.sides)

    async def listen() -> None:
        async for _ in answered(Desk(scheduler=scheduler), talk, ONE, "en"):
            pass

    asyncio.run(listen())
    assert scheduler.spoken[0].request.sampling.seed == ONE.sampling.seed + 1


def test_what_went_wrong_is_told_in_the_reader_s_language():
    class Full(PageScheduler):
        def submit(self, request, hear):
            raise UsageError("the question is empty")

    async def listen(language: str) -> Talk:
        desk = Desk(scheduler=Full())
        return [talk async for talk in answered(desk, Talk().asked("?", ONE.sides), ONE, language)][-1]

    problems = [asyncio.run(listen(language)).turns[-1].said[0].problem for language in ("en", "zh")]
    assert "the question is empty" in problems[0]
    assert problems[1] == "问题未被接受：问题是空的"
