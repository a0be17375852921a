"""From the records of a run to what the model reads, and the checks that something will be learnt."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from medcli.core.alignment_settings import RolloutSettings
from medcli.core.errors import DataError, ModelError, UsageError
from medcli.core.reading import DOCUMENTS, PAIRS, PROMPTS, Reading
from medcli.core.record import Record
from medcli.core.report import Report
from medcli.core.train_settings import TrainSettings
from medcli.steps import encoded_cache

if TYPE_CHECKING:
    from medcli.engine.encode import Losses
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Example, Samples

SHORTEST = 8  # tokens of a sample, as --max-length has it
UNTRAINED_LIMIT = 0.05  # a data set in which more samples than this teach nothing is refused


def template_for(reading: Reading) -> str:
    """The chat template of a model that has none: who only reads needs none; answers are not taught without."""
    return "plain" if reading == DOCUMENTS else ""


def encoded(
    loaded: "Loaded",
    reading: Reading,
    records: Iterable[Record],
    split: str,
    total: int,
    settings: TrainSettings,
    report: Report,
) -> tuple["Samples", "Losses"]:
    """The samples of a split, and what was lost on the way; of several processes on a machine one encodes for all."""
    max_length = min(settings.max_length, loaded.context or settings.max_length)

    def encode() -> tuple["Samples", "Losses"]:
        if total:
            report.stage(f"encoding {split}", total=total, unit="samples")
        return _encoded(loaded, reading, records, max_length, settings, report)

    return encode() if reading == PROMPTS else encoded_cache.shared(split, max_length, encode)


def _encoded(
    loaded: "Loaded",
    reading: Reading,
    records: Iterable[Any],
    max_length: int,
    settings: TrainSettings,
    report: Report,
) -> tuple["Samples", "Losses"]:
    from medcli.engine.encode import Losses, encode_all, encode_documents, encode_pairs, encode_prompts
    from medcli.engine.pack import Blocks, Examples, Pairs

    losses, tokenizer = Losses(), loaded.tokenizer
    if reading == DOCUMENTS:
        documents = Examples(encode_documents(records, tokenizer, max_length=max_length, advance=report.advance))
        return (Blocks(documents, max_length) if settings.packing else documents), losses
    how: dict[str, Any] = {"max_length": max_length, "losses": losses, "advance": report.advance}
    if isinstance(settings, RolloutSettings):
        how["max_length"] -= settings.max_tokens
        return encode_prompts(records, loaded.template, tokenizer, **how), losses
    if reading == PAIRS:
        return Pairs(Examples(encode_pairs(records, loaded.template, tokenizer, **how))), losses
    return Examples(encode_all(records, loaded.template, tokenizer, **how)), losses


def check_room(loaded: "Loaded") -> None:
    """A prefix counts in the model's context, and must leave some of it to the text; raises UsageError."""
    if loaded.prefix and loaded.context is not None and loaded.context < SHORTEST:
        raise UsageError(
            f"--prefix-length {loaded.prefix}: the model reads {loaded.prefix + loaded.context} tokens in all, "
            "so nothing is left for the text",
            hint="choose a shorter prefix; 16 to 128 is usual",
        )


def check_learnable(losses: "Losses", kept: int) -> None:
    """A sample without a trained token gives loss 0.0, which looks fine; so it is counted and refused."""
    if kept + losses.too_long + losses.untrained == 0:
        raise DataError("the data has no training samples", hint="`med data stats NAME` shows what is in each split")
    if kept == 0:
        raise DataError(
            f"nothing would be learnt: {losses.too_long} samples too long, {losses.untrained} with nothing to learn",
            hint="raise --max-length, or choose the model's template with --template",
        )
    share = losses.untrained / (kept + losses.untrained)
    if share > UNTRAINED_LIMIT:
        raise DataError(
            f"in {share:.0%} of the samples nothing would be learnt",
            hint="look at one with `med data show NAME 1 --tokens MODEL`: is the template the model's own?",
        )


def sizes_of(data: "Samples", reading: Reading, settings: TrainSettings) -> list[tuple[str, Any]]:
    """How much there is to read and to learn in an epoch."""
    if reading == PROMPTS:
        return [("prompts", len(data)), ("tokens of the prompts", data.tokens)]
    share = data.trained_tokens / max(data.tokens, 1)
    return [
        ("pairs" if reading == PAIRS else "samples", len(data)),
        ("tokens an epoch", data.tokens),
        *padding_of(data, settings),
        ("tokens of answers" if reading == PAIRS else "learnt tokens", f"{data.trained_tokens:,} ({share:.0%})"),
    ]


def padding_of(data: "Samples", settings: TrainSettings) -> list[tuple[str, str]]:
    """The share of an epoch that is padding, and what it would be in rows of any length; nothing without padding."""
    from medcli.engine.length_groups import LengthGroups, padding

    if settings.packing or settings.mix == "concatenate":
        return []
    order = list(LengthGroups(data, settings.batch * settings.accumulate, settings.seed, lambda: 0))
    grouped = padding(data.lengths, order, settings.batch)
    as_they_come = padding(data.lengths, range(len(data)), settings.batch)
    return [("padding", f"{grouped:.0%} of the rows, grouped by length; {as_they_come:.0%} if they were not")]


def check_end(loaded: "Loaded", example: "Example") -> None:
    """A model that never learns the end of an answer talks on for ever, the commonest complaint of all."""
    last = int(example.ids[example.trained][-1])
    if last not in loaded.stops:
        raise ModelError(
            f"the chat template '{loaded.template.name}' ends an answer with "
            f"{loaded.tokenizer.decode([last])!r}, which is no stop word of this model",
            hint="choose the model's template with --template; `med data show NAME 1 --tokens MODEL` shows a sample",
        )
