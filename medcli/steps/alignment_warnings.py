"""What a person should know before a model learns from what is better or worse: rates, pairs, policies, rewards."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medcli.core import model_ref
from medcli.core.alignment_settings import DpoSettings, PairSettings, PpoSettings, RewardSettings, RolloutSettings
from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.settings import read_toml
from medcli.core.train_settings import TrainSettings
from medcli.steps.alignment_facts import in_policy

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples

FEW_PAIRS = 100
ONE_SIDED = 0.75  # of the pairs the better answer is the longer one: then length alone tells them apart
TOO_FAST = 10  # times a method's usual rate
_WORDS = {RewardSettings: "reward models", DpoSettings: "preferences", RolloutSettings: "policies"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """How many pairs there are, in how many both answers are the same tokens, and in how many the better is longer."""

    pairs: int
    same: int
    longer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What settings of alignment are measured by.

    `speaks` is whether the model has learnt to answer, as far as one can see; `other_template` that the reward model
    was taught by another chat template than the policy's.
    """

    pairing: Pairing | None = None
    is_tiny: bool = False
    speaks: bool = True
    other_template: bool = False


def seen(settings: TrainSettings, ref: ModelRef, loaded: "Loaded", data: "Samples") -> Seen:
    """Look at the model and the data of a run."""
    from medcli.engine.pack import Pairs

    return Seen(
        pairing=pairing_of(data) if isinstance(data, Pairs) else None,
        is_tiny=ref.is_tiny,
        speaks=_speaks(ref, loaded),
        other_template=isinstance(settings, PpoSettings) and _other_template(settings, loaded),
    )


def pairing_of(data: "Samples") -> Pairing:
    """Count the pairs of `data`, whose examples stand two by two."""
    import numpy

    examples = data.examples
    learnt = numpy.concatenate([[0], examples.trained.cumsum()])
    answers = (learnt[examples.ends[1:]] - learnt[examples.ends[:-1]]).reshape(-1, 2)
    lengths = examples.lengths.reshape(-1, 2)
    alike = numpy.flatnonzero(lengths[:, 0] == lengths[:, 1])
    same = sum(numpy.array_equal(examples[2 * number].ids, examples[2 * number + 1].ids) for number in map(int, alike))
    return Pairing(pairs=len(answers), same=same, longer=int((answers[:, 0] > answers[:, 1]).sum()))


def warnings_of(settings: TrainSettings, found: Seen) -> list[str]:
    """What will happen, and what to set instead; nothing for methods that imitate."""
    said: list[str] = []
    if isinstance(settings, PairSettings | RolloutSettings):
        said += [] if found.is_tiny else _of_rate(settings)
        said += _of_model(settings, found)
    if found.pairing is not None:
        said += _of_pairs(settings, found.pairing)
    if isinstance(settings, PpoSettings):
        said += _of_rollouts(settings)
    return said


def usual_rate(settings: PairSettings | RolloutSettings) -> float:
    """The method's own default for what learns."""
    match settings:
        case RewardSettings():
            return 1e-4 if settings.tuner == "lora" else 1e-5
        case DpoSettings():
            return 1e-5 if settings.tuner == "lora" else 1e-6
    return 1e-5


def _of_rate(settings: PairSettings | RolloutSettings) -> Iterator[str]:
    usual = usual_rate(settings)
    if settings.learning_rate >= TOO_FAST * usual:
        whose = next(words for kind, words in _WORDS.items() if isinstance(settings, kind))
        yield (
            f"--lr {settings.learning_rate:g} is a rate for answers to be imitated; {whose} overshoot at it: "
            f"--lr {usual:g} is usual"
        )


def _of_model(settings: TrainSettings, found: Seen) -> Iterator[str]:
    if not found.speaks and not isinstance(settings, RewardSettings):
        yield (
            "the model has not learnt to answer yet, and this method only shifts answers it would give: first "
            f"med train lora --model {settings.model} on dialogues, then --model that run"
        )
    if found.other_template:
        yield (
            "the reward model was taught by another chat template than the policy's: its rewards are of texts it never "
            "saw; train it with the same --template, or give the policy's run that one"
        )


def _of_pairs(settings: TrainSettings, found: Pairing) -> Iterator[str]:
    if found.pairs < FEW_PAIRS:
        yield (
            f"only {found.pairs:,} pairs: so few are learnt by heart; some thousands are usual, "
            "and `med data make preference` makes them of answers that a model gives"
        )
    if found.same:
        yield (
            f"in {found.same:,} of {found.pairs:,} pairs both answers are the same and teach nothing: "
            "leave them out, `med data build` does so by itself"
        )
    share = found.longer / max(found.pairs, 1)
    if share > ONE_SIDED:
        instead = (
            "--loss simpo counts by the token"
            if isinstance(settings, DpoSettings) and settings.loss != "simpo"
            else "add pairs whose better answer is the shorter one"
        )
        yield (
            f"in {share:.0%} of the pairs the better answer is the longer one, so length may be all that is learnt: "
            f"{instead}"
        )


def _of_rollouts(settings: PpoSettings) -> Iterator[str]:
    update = settings.batch * settings.accumulate
    if update > settings.rollouts:
        yield (
            f"--batch {settings.batch} × --accumulate {settings.accumulate} is more than the --rollouts "
            f"{settings.rollouts} of a step: each pass over them is one update; --rollouts {4 * update} makes four"
        )
    elif settings.rollouts % update:
        whole = max(update, round(settings.rollouts / update) * update)
        yield (
            f"--rollouts {settings.rollouts} is no multiple of --batch {settings.batch} × --accumulate "
            f"{settings.accumulate}: the last update of each pass is a smaller one; --rollouts {whole} makes all alike"
        )


def _speaks(ref: ModelRef, loaded: "Loaded") -> bool:
    """A model of plain text only: the last stage was pt, or nobody ever gave it a chat template."""
    stage = ref.adapters[-1] if ref.adapters else Path(ref.base)
    run = stage.parent / "run.toml"
    if run.is_file():
        return bool(read_toml(run)["run"]["method"] != "pt")
    return ref.template is not None or bool(loaded.tokenizer.chat_template)


def _other_template(settings: PpoSettings, loaded: "Loaded") -> bool:
    try:
        judge = model_ref.resolve(settings.reward)
    except ModelError:  # a service's address; a name that is wrong has been refused before
        return False
    if not in_policy(settings, settings.reward):
        return False  # it renders dialogues by its own template
    return judge.template is not None and judge.template.read_text("utf-8") != loaded.template.text
