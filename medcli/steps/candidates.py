"""Who sits an exam and who helps: a model that is here, or one behind a service."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from medcli.core import model_ref
from medcli.core.answers_file import FileSpeaker
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import DataError, UsageError
from medcli.core.exam_settings import RULES, EvalSettings
from medcli.core.journal import CHUNK_OF_SERVICE, Journal, Remembering
from medcli.core.knowledge_base import open_base
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.rewarder import RewardModel
from medcli.core.service_ref import ServiceRef, service_of
from medcli.core.speaker import Declining, Reader, Sampling, Speaker
from medcli.steps.grounded import Grounded, GroundedReader, Library, open_library
from medcli.steps.results import check_fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Who sits an exam. `reader` is None for one that can only be asked for text.

    `described` tells it from every other one, and from what it was before it was trained again.
    """

    speaker: Speaker
    reader: Reader | None
    described: Mapping[str, Any]
    rewarder: RewardModel | None = None


class Speechless:
    """A `Speaker` that cannot speak: a reward model, which is asked for rewards only."""

    def __init__(self, ref: str) -> None:
        self._ref = ref

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """Raises DataError."""
        raise _does_not_speak(self._ref)

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """Raises DataError."""
        raise _does_not_speak(self._ref)


# Who is open now: one who judges too is loaded once, and is let go when nobody asks it any more.
_OPEN: WeakValueDictionary[tuple[str, ...], Any] = WeakValueDictionary()


def open_candidate(ref: str, settings: EvalSettings, report: Report) -> Candidate:
    """The model that `ref` names, or the service `URL#NAME`, ready to be asked.

    With `settings.kb` its answers rest on a knowledge base, and what they cite is not shown below them: they are
    marked. A reward model is opened to judge. Raises UsageError, ModelError and DeviceError.
    """
    described = describe(ref, settings.kb)
    library = open_library(settings.kb) if settings.kb else None
    if service := service_of(ref):
        return Candidate(speaker=_resting(_service(service, report), library), reader=None, described=described)
    if model_ref.resolve(ref).is_reward:
        if library:
            raise UsageError(f"{ref} judges answers and gives none, so that --kb has no use", hint="leave --kb away")
        judge = _rewarder(ref, settings, report)
        return Candidate(speaker=Speechless(ref), reader=None, described=described, rewarder=judge)

    from medcli.engine.reader import LocalReader

    speaker = _local(ref, settings, report)
    reader: Reader = LocalReader(speaker.loaded)
    if library:
        reader = GroundedReader(reader, library, speaker.loaded.context)
    return Candidate(speaker=_resting(speaker, library), reader=reader, described=described)


def _resting(speaker: Speaker, library: Library | None) -> Speaker:
    return Grounded(speaker, library, citing=False) if library else speaker


def open_helper(ref: str, settings: EvalSettings, report: Report) -> Speaker | None:
    """Who plays the patient, or judges; None where that is left to rules. Raises what `open_candidate` does."""
    if ref == RULES:
        return None
    service = service_of(ref)
    speaker: Speaker = _service(service, report) if service else _local(ref, settings, report)
    return speaker


def check_reference(ref: str, datasets: Sequence[DatasetFolder]) -> None:
    """Raise UsageError or ModelError when `ref` names nobody, DataError when it does not fit what is examined.

    Without data sets it is to speak.
    """
    if service_of(ref):
        return
    if not datasets:
        _speaking(ref)
    for dataset in datasets:
        check_fit(ref, model_ref.resolve(ref), dataset)


def describe(ref: str, kb: str = "") -> dict[str, Any]:
    """What tells the model, service or rules behind `ref` from any other, without opening it; plain values for JSON.

    A model whose answers rest on a knowledge base is another one, and so is one whose base was built from other files.
    Of a model that is here the sizes and times of its files; of a service nobody knows what answers there.
    """
    if kb:
        return describe(ref) | {"kb": open_base(kb).described}
    if ref == RULES:
        return {"rules": True}
    if service := service_of(ref):
        return {"service": service.url, "model": service.model}
    return model_ref.fingerprint(model_ref.resolve(ref))


def remembering(speaker: Speaker, journal: Journal, who: str) -> Speaker:
    """The speaker, its answers kept in the journal; those of a file are kept already."""
    if isinstance(speaker, FileSpeaker):
        return speaker

    from medcli.engine.service_speaker import ServiceSpeaker

    if isinstance(speaker.speaker if isinstance(speaker, Grounded) else speaker, ServiceSpeaker):
        return Remembering(speaker, journal, who, CHUNK_OF_SERVICE)
    return Remembering(speaker, journal, who)


def note_refusals(speaker: Speaker, report: Report) -> None:
    """Tell how many prompts were not answered, and the first reason; their answers are empty and count as such."""
    if isinstance(speaker, Declining) and speaker.refusals:
        first = next(iter(speaker.refusals.values()))
        report.note(f"{len(speaker.refusals):,} prompts were not answered, and count as empty answers: {first}")


def _speaking(ref: str) -> ModelRef:
    """The model that `ref` names; raises DataError for a reward model."""
    reference = model_ref.resolve(ref)
    if reference.is_reward:
        raise _does_not_speak(ref)
    return reference


def _does_not_speak(ref: str) -> DataError:
    return DataError(
        f"{ref} is a reward model, which judges pairs of answers and does not speak",
        hint=f"med eval {ref} --dataset PAIRS    (`med data list` shows which hold preferences)",
    )


def _rewarder(ref: str, settings: EvalSettings, report: Report) -> RewardModel:
    reference = model_ref.resolve(ref)

    from medcli.engine import remote_code
    from medcli.engine.reward_model import open_reward_model

    reference = remote_code.consent(reference) if settings.trust_remote_code else reference
    return open_reward_model(reference, device=settings.device, report=report)


def _local(ref: str, settings: EvalSettings, report: Report) -> Any:
    """A LocalSpeaker, which is no word for this floor."""
    reference = _speaking(ref)

    from medcli.engine import remote_code
    from medcli.engine.speaker import open_speaker

    reference = remote_code.consent(reference) if settings.trust_remote_code else reference
    return _once(
        (repr(reference), settings.device), lambda: open_speaker(reference, device=settings.device, report=report)
    )


def _service(service: ServiceRef, report: Report) -> Any:
    from medcli.engine.service_speaker import ServiceSpeaker

    return _once((str(service),), lambda: ServiceSpeaker(service, report))


def _once(name: tuple[str, ...], opened: Callable[[], Any]) -> Any:
    """Who is open under that name, or is opened now."""
    found = _OPEN.get(name)
    if found is None:
        found = _OPEN[name] = opened()
    return found
