"""Answer the requests of many people at once: a thread that lets the models speak, a token of each answer at a time."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from medcli.core.errors import UnknownNameError, UsageError
from medcli.core.model_ref import ModelRef
from medcli.core.report import Report
from medcli.core.serving import Busy, Closing, Failure, Heard, Load, Piece, Request
from medcli.engine import device as devices
from medcli.engine.decoder import Said
from medcli.engine.loaded import Loaded
from medcli.engine.speaker import decoder_of, encoded, too_long
from medcli.engine.speech import Speech
from medcli.engine.token_chances import chance_of
from medcli.engine.voices import Place, Voice, open_voices

_SLOWEST = 60  # seconds: nobody is told to come back later than that


@dataclass(eq=False, kw_only=True)
class _Ticket:
    """A request, the speech that answers it, and whether anyone still listens."""

    request: Request
    speech: Speech
    hear: Callable[[Heard], None]
    wake: threading.Condition
    cancelled: bool = False
    begun: float = field(default_factory=time.monotonic)

    def cancel(self) -> None:
        """See `core.serving.Ticket`."""
        with self.wake:
            self.cancelled = True
            self.wake.notify()


class LocalScheduler:
    """A `Scheduler` over models that are here. `slots` answers are made at once, and `waiting` more requests wait."""

    def __init__(self, voices: Mapping[str, Voice], *, slots: int, waiting: int, report: Report) -> None:
        self._voices = dict(voices)
        self._slots, self._places, self._report = slots, waiting, report
        self._decoders = {name: decoder_of(voice.loaded, slots) for name, voice in voices.items()}
        self._before = Load(running=0, waiting=0, slots=slots, read=0, said=0, reused=0)  # counts of replaced decoders
        self._wake = threading.Condition()
        self._waiting: deque[_Ticket] = deque()
        self._running: list[_Ticket] = []
        self._closing = self._stopped = False
        self._seconds = 1.0  # that an answer takes, lately
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    @property
    def models(self) -> Sequence[str]:
        """See `core.serving.Scheduler`."""
        return list(self._voices)

    def context(self, model: str) -> int | None:
        """See `core.serving.Scheduler`."""
        return self._voice(model).loaded.context

    def submit(self, request: Request, hear: Callable[[Heard], None]) -> _Ticket:
        """See `core.serving.Scheduler`."""
        loaded = self._voice(request.model).loaded
        if request.chances is not None and loaded.causal_lm._is_stateful:
            raise UsageError(f"'{request.model}' does not tell log-probabilities: its state is carried by a loop apart")
        ticket = _Ticket(request=request, speech=_speech_of(loaded, request), hear=hear, wake=self._wake)
        with self._wake:
            if self._closing:
                raise Closing("the server is stopping", hint="ask another one, or this one when it is back")
            if len(self._waiting) >= self._places + max(0, self._slots - len(self._running)):
                raise Busy(self._retry_after())
            self._waiting.append(ticket)
            self._wake.notify()
        return ticket

    def load(self) -> Load:
        """See `core.serving.Scheduler`."""
        with self._wake:
            decoders, before = self._decoders.values(), self._before
            return Load(
                running=len(self._running),
                waiting=len(self._waiting),
                slots=self._slots,
                read=before.read + sum(decoder.read for decoder in decoders),
                said=before.said + sum(decoder.said for decoder in decoders),
                reused=before.reused + sum(decoder.reused for decoder in decoders),
            )

    def close(self, patience: float) -> None:
        """See `core.serving.Scheduler`."""
        end = time.monotonic() + patience
        with self._wake:
            self._closing = True
            self._wake.notify()
            while (self._running or self._waiting) and (left := end - time.monotonic()) > 0:
                self._wake.wait(left)
            self._stopped = True
            self._wake.notify()
        self._thread.join()

    def _voice(self, model: str) -> Voice:
        if model not in self._voices:
            raise UnknownNameError("served model", model, self._voices)
        return self._voices[model]

    def _retry_after(self) -> int:
        rounds = (len(self._waiting) + len(self._running)) / self._slots
        return min(_SLOWEST, max(1, ceil(rounds * self._seconds)))

    def _run(self) -> None:
        while self._next():
            for name in dict.fromkeys(ticket.request.model for ticket in self._running):
                self._step(name)
        for ticket in [*self._running, *self._waiting]:
            ticket.hear(Failure(problem="the server was stopped before the answer was whole"))

    def _next(self) -> bool:
        """Let those in whose turn it is, and those go who do not listen; waits for work. False when all is over."""
        with self._wake:
            self._wake.wait_for(lambda: self._stopped or self._running or self._waiting)
            self._drop_cancelled()
            for ticket in list(self._waiting):
                decoder = self._decoders[ticket.request.model]
                if len(self._running) < self._slots and decoder.free:
                    self._waiting.remove(ticket)
                    self._running.append(ticket)
                    decoder.join(ticket.speech)
            self._wake.notify_all()
            return not self._stopped

    def _drop_cancelled(self) -> None:
        for ticket in [ticket for ticket in self._running if ticket.cancelled]:
            self._running.remove(ticket)
            self._decoders[ticket.request.model].leave(ticket.speech)
        for ticket in [ticket for ticket in self._waiting if ticket.cancelled]:
            self._waiting.remove(ticket)

    def _step(self, name: str) -> None:
        """A step of one of the models. What goes wrong in it is told to all whom it was answering; others go on."""
        mine = {ticket.speech: ticket for ticket in self._running if ticket.request.model == name}
        try:
            self._voices[name].begin()
            said = self._decoders[name].step()
        except Exception as error:
            self._fail(name, list(mine.values()), error)
            return
        for one in said:
            self._tell(mine[one.speech], one)
        ended = [ticket for speech, ticket in mine.items() if speech.finish]
        with self._wake:
            for ticket in ended:
                self._running.remove(ticket)
                self._seconds += 0.1 * (time.monotonic() - ticket.begun - self._seconds)
            self._wake.notify_all()  # who closes waits for the last one
        for ticket in ended:
            if not ticket.cancelled:
                ticket.hear(ticket.speech.answer())

    def _tell(self, ticket: _Ticket, one: Said) -> None:
        asked = ticket.request.chances
        loaded = self._voices[ticket.request.model].loaded
        is_end = one.token in loaded.stops
        chances = () if asked is None or is_end else (chance_of(loaded.tokenizer, one.token, one.logits, asked),)
        if (one.text or chances) and not ticket.cancelled:
            ticket.hear(Piece(text=one.text, chances=chances))

    def _fail(self, name: str, tickets: Sequence[_Ticket], error: Exception) -> None:
        """Tell why, and begin anew with nothing kept: what is in the rows may be half written."""
        problem = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        self._report.note(f"{name}: {len(tickets)} answers failed: {problem}")
        broken = self._decoders[name]
        with self._wake:
            before = self._before
            self._before = Load(
                running=0,
                waiting=0,
                slots=self._slots,
                read=before.read + broken.read,
                said=before.said + broken.said,
                reused=before.reused + broken.reused,
            )
            self._decoders[name] = decoder_of(self._voices[name].loaded, self._slots)
            for ticket in tickets:
                self._running.remove(ticket)
            self._wake.notify_all()
        for ticket in tickets:
            ticket.hear(Failure(problem=problem))


def open_scheduler(
    refs: Mapping[str, ModelRef],
    *,
    device: str,
    quant: str = "none",
    dtype: str = "auto",
    slots: int,
    waiting: int,
    report: Report,
) -> LocalScheduler:
    """Load the models and begin to take requests; raises ModelError and DeviceError."""
    place = Place(device=devices.pick(device), quant=quant, dtype=devices.precision(dtype))
    return LocalScheduler(open_voices(refs, place, report), slots=slots, waiting=waiting, report=report)


def _speech_of(loaded: Loaded, request: Request) -> Speech:
    """The answer that is to be made; raises UsageError when there is no room for one."""
    prompt = request.prompt
    ids = loaded.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else encoded(loaded, prompt)
    if not ids:
        raise UsageError("the prompt is empty")
    if problem := too_long(loaded, ids):
        raise UsageError(problem, hint="shorten it")
    room = None if loaded.context is None else loaded.context - len(ids)
    return Speech(loaded, ids, request.sampling, room=room, blank=isinstance(prompt, str))
