"""How a person sets the way a model answers: the same words for a chat, a file of prompts and a server."""

from dataclasses import dataclass

from medcli.core.errors import UsageError
from medcli.core.settings import setting
from medcli.core.speaker import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """What can be set about answers."""

    temperature: float = setting(
        0.7, help="How freely the next word is chosen; 0 always takes the likeliest.", minimum=0
    )
    top_p: float = setting(0.9, help="Choose among the likeliest words that make up this share.", minimum=0)
    top_k: int = setting(0, help="Choose among so many of the likeliest words; 0 is no limit.", minimum=0)
    max_tokens: int = setting(512, help="The longest answer, in tokens.", minimum=1)
    seed: int = setting(42, help="The same seed gives the same answer.", minimum=0)
    repetition_penalty: float = setting(
        1.0, help="Above 1, words that stand in question or answer are less likely; 1 changes nothing."
    )
    stop: tuple[str, ...] = setting((), help="Texts before which an answer ends.")


def sampling_of(settings: SamplingSettings) -> Sampling:
    """How the next word is chosen; raises UsageError for a share or a penalty that is none."""
    if not 0 < settings.top_p <= 1:
        raise UsageError(
            f"--top-p: {settings.top_p} is not above 0 and at most 1",
            hint="0.9 is usual; 1 leaves nothing out",
        )
    if settings.repetition_penalty <= 0:
        raise UsageError(
            f"--repetition-penalty: {settings.repetition_penalty} is not above 0",
            hint="1 changes nothing; 1.05 to 1.2 are usual",
        )
    return Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
        repetition_penalty=settings.repetition_penalty,
        stop=settings.stop,
    )
