"""`med chat`: a conversation on the terminal, one question, or questions from a pipe."""

import json as json_module
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import Json, settle, takes
from medcli.core.errors import DataError, UsageError
from medcli.core.model_ref import TINY
from medcli.core.report import Report, Silent
from medcli.core.sampling_settings import sampling_of
from medcli.core.speaker import Speaker
from medcli.steps.awaited import Awaited, NotOpened
from medcli.steps.chat import CUT, Dialogue, Flags, Settings
from medcli.steps.grounded import Grounded, open_library
from medcli.steps.speakers import is_at_hand, is_tiny, notice_of, open_speaker, shown

app = typer.Typer(add_completion=False, rich_markup_mode=None)
SpeakerOf = Callable[[str, Settings, Report], Speaker]

NAMED_HELP = "A run, a model folder, a hub id, med-tiny, or a service URL#NAME; else what med.toml names, or med-tiny."
ASKED_HELP = "One question; without it, a conversation, or the lines of a pipe."
Named = Annotated[str | None, typer.Argument(metavar="MODEL", help=NAMED_HELP, show_default=False)]
Asked = Annotated[str | None, typer.Argument(metavar="QUESTION", help=ASKED_HELP, show_default=False)]


@app.command()
@takes(Flags)
def chat(model: Named = None, question: Asked = None, json: Json = False, *, flags: Mapping[str, Any]) -> None:
    """Talk with a model: on the terminal, with one QUESTION, or with a question a line from a pipe."""
    settings = settle(Settings, "chat", {**flags, "model": model}).values
    talk(settings, question, as_json=json, speaker_of=_open)


def talk(settings: Settings, question: str | None, *, as_json: bool, speaker_of: SpeakerOf) -> None:
    """Run the use of `chat` that the arguments and the terminal ask for; `speaker_of` opens the model."""
    sampling = sampling_of(settings)
    on_terminal = question is None and sys.stdin.isatty()
    if question is not None and not question.strip():
        raise UsageError("the question is empty")
    if on_terminal and as_json:
        raise UsageError("--json does not fit a conversation", hint="give a QUESTION, or pipe questions in, one a line")
    model = settings.model or TINY
    if not settings.model:
        console.note(f"no MODEL is named: talking with {TINY}")
    library = open_library(settings.kb) if settings.kb else None
    speaker = _opening(model, settings, speaker_of) if on_terminal else _opened(model, settings, speaker_of)
    if library:
        speaker = Grounded(speaker, library)
        if is_tiny(model):
            console.note(f"{TINY} has not learnt to read passages: take a model that follows instructions")
    console.note(notice_of(model))
    fresh = partial(Dialogue, speaker, sampling, settings.system)
    if on_terminal:
        from medcli.cli.repl import converse

        console.note(_greeting(model, settings.kb))
        try:
            converse(fresh())
        except NotOpened as lost:
            raise lost.reason from lost
    elif question is not None:
        answer_one(fresh(), question.strip(), model, as_json)
    else:
        answer_each(fresh, _piped_questions(sys.stdin), model, as_json)


def answer_one(dialogue: Dialogue, question: str, model: str, as_json: bool) -> None:
    """Print the answer to one question as it comes, or as JSON."""
    if as_json:
        console.show_json(_row(dialogue, question, model))
        return
    for piece in dialogue.ask(question):
        console.stream(piece)
    console.stream("\n")
    if dialogue.is_cut:
        console.note(CUT)


def answer_each(fresh: Callable[[], Dialogue], questions: Iterable[str], model: str, as_json: bool) -> None:
    """Answer each question in a dialogue of its own: a line each, or one JSON object a line."""
    count = 0
    for count, question in enumerate(questions, 1):  # noqa: B007
        if as_json:
            console.stream(json_module.dumps(_row(fresh(), question, model), ensure_ascii=False) + "\n")
        else:
            answer_one(fresh(), question, model, as_json=False)
    if not count:
        console.note("no question came through the pipe")


def _row(dialogue: Dialogue, question: str, model: str) -> dict[str, str]:
    return {"question": question, "answer": "".join(dialogue.ask(question)), "model": model}


def _piped_questions(lines: Iterable[str]) -> Iterator[str]:
    """The lines that hold anything; raises DataError when they are not UTF-8."""
    try:
        for line in lines:
            line.encode("utf-8")  # in the C locale foreign bytes arrive as surrogates and fail only here
            if question := line.removeprefix("\ufeff").strip():
                yield question
    except UnicodeError as error:
        raise DataError(
            "the questions in the pipe are not UTF-8", hint="iconv -f gb18030 -t utf-8 FILE | med chat …"
        ) from error


def _greeting(model: str, kb: str) -> str:
    rests = f", whose answers rest on {kb}" if kb else ""
    return f"talking with {shown(model)}{rests}. /help lists the commands, /exit or Ctrl-D leaves\n"


def _opening(model: str, settings: Settings, speaker_of: SpeakerOf) -> Speaker:
    """The model for a person at a terminal, who need not wait for one that is only loaded to think of a question."""
    if not is_at_hand(model):
        return _opened(model, settings, speaker_of)
    return Awaited(partial(speaker_of, model, settings, Silent()), console.note)


def _opened(model: str, settings: Settings, speaker_of: SpeakerOf) -> Speaker:
    with console.watching() as report:
        return speaker_of(model, settings, report)


def _open(model: str, settings: Settings, report: Report) -> Speaker:
    speaker: Speaker = open_speaker(model, settings, report)
    return speaker
