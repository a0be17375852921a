"""What a tuner trains, as settings that several training methods share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Literal

from medcli.core.errors import UsageError
from medcli.core.settings import flag_of, setting
from medcli.core.train_settings import TrainSettings

_LAYERS = re.compile(r"(last|first|every):([1-9]\d*)|all")


@dataclass(frozen=True, kw_only=True)
class LoraSettings(TrainSettings):
    """Low-rank adapters. All linear layers and ten times full tuning's rate are what serves best (Schulman 2025)."""

    rank: int = setting(16, help="Rank of the update matrices.", minimum=1)
    alpha: int = setting(32, help="Scale of the update: alpha / rank.", minimum=1)
    dropout: float = setting(0.0, help="Dropout on the adapter's input.", minimum=0.0)
    targets: tuple[str, ...] = setting(
        ("all-linear",), help="Layers that get an adapter, by name, with commas between."
    )
    dora: bool = setting(False, help="Weight-decomposed adapters (DoRA): a little better, a third slower.")
    rslora: bool = setting(False, help="Scale by alpha / sqrt(rank): steadier at high ranks.")
    init: Literal["default", "pissa"] = setting("default", help="pissa starts from the weights' main directions.")
    rate_ratio: float = setting(
        1.0, help="LoRA+: rate of the B matrices over that of the A matrices; 16 is usual.", minimum=1.0
    )
    modules_to_save: tuple[str, ...] = setting(
        (), help="Modules trained and saved whole beside the adapters, such as embed_tokens,lm_head."
    )
    quant: Literal["none", "4bit", "8bit"] = setting(
        "none", help="Keep the frozen weights in so many bits (QLoRA by bitsandbytes)."
    )

    continue_run: bool = setting(
        False, flag="continue", help="Go on training the adapter of --model, instead of merging it and adding one."
    )

    def check_adapters(self) -> None:
        """Refuse combinations that would learn nothing, or lose a part in silence; raises UsageError."""
        if self.dropout >= 1:
            raise UsageError(f"--dropout: {self.dropout} leaves nothing", hint="use a share below 1, such as 0.05")
        if "lm_head" in self.targets and self.packing:
            raise UsageError("--targets lm_head: the fast loss reads the head's own weight", hint="add --no-packing")
        if self.quant != "none" and self.init == "pissa":
            raise UsageError(
                "--init pissa needs the weights in full precision", hint="leave out --quant, or --init pissa"
            )


@dataclass(frozen=True, kw_only=True)
class FreezeSettings(TrainSettings):
    """Which of the model's own layers learn while the rest stays frozen."""

    layers: str = setting("last:3", help="Layers that learn: last:N, first:N, every:K (each K-th), or all.")
    parts: Literal["all", "mlp", "attention"] = setting("all", help="What of those layers learns.")
    trunk_cache: float = setting(
        20.0, help="GiB of disk for the frozen layers' outputs, used from the second epoch on; 0 = none.", minimum=0.0
    )

    def check_layers(self) -> None:
        """Raises UsageError when `layers` is not one of the forms it may have."""
        if not _LAYERS.fullmatch(self.layers):
            raise UsageError(
                f"--layers: '{self.layers}' names no layers",
                hint="last:3 = the last three, first:2, every:4 = each fourth, or all",
            )

    def chosen(self, count: int) -> list[int]:
        """Which of `count` layers learn, from 0; raises UsageError when there are not as many."""
        found = _LAYERS.fullmatch(self.layers)
        assert found is not None  # `check_layers` has seen to it
        if found[0] == "all":
            return list(range(count))
        number = int(found[2])
        if number > count:
            raise UsageError(f"--layers {self.layers}: the model has {count} layers", hint=f"choose at most {count}")
        match found[1]:
            case "last":
                return list(range(count - number, count))
            case "first":
                return list(range(number))
        return list(range(number - 1, count, number))


@dataclass(frozen=True, kw_only=True)
class PrefixSettings(TrainSettings):
    """Keys and values that stand before every text, in each layer; the model's own weights stay as they are.

    Length and rate are those of ChatGLM-6B's published P-Tuning v2 (pre_seq_len 128, 2e-2). An MLP does not bear that
    rate (on med-tiny the loss rose from 3.2 to 4.1 nat; with 5e-3 it fell to 1.0): it has the commonest one of the
    authors' own scripts, 5e-3.
    """

    length: int = setting(
        128, flag="prefix_length", help="Virtual tokens of the prefix; they count in the context.", minimum=1
    )
    projection: bool = setting(False, help="Learn the prefix through an MLP, which is not needed any more afterwards.")
    hidden: int = setting(0, help="Width of that MLP; 0 = the model's own.", minimum=0)
    continue_run: bool = setting(False, flag="continue", help="Go on training the prefix of --model.")
    learning_rate: float = setting(
        0.0, flag="lr", help="Peak learning rate; 0 = 2e-2, or 5e-3 with --projection.", minimum=0.0
    )
    packing: bool = setting(False, help="Not with a prefix: its rows are padded, and grouped by length.")

    def __post_init__(self) -> None:
        if not self.learning_rate:
            object.__setattr__(self, "learning_rate", 5e-3 if self.projection else 2e-2)

    def check_prefix(self) -> None:
        """Refuse what would lose the prefix, or be without effect; raises UsageError."""
        if self.packing:
            raise UsageError(
                "--packing: documents of one row cannot each have the prefix before them", hint="add --no-packing"
            )
        if self.checkpointing:
            raise UsageError(
                "--checkpointing: computing a layer again would lose the prefix before it",
                hint="leave it out (or add --no-checkpointing); --batch 1 and --accumulate save memory too",
            )
        if self.hidden and not self.projection:
            raise UsageError("--hidden is without effect without --projection", hint="add --projection")
        if self.continue_run and self.projection:
            raise UsageError(
                "--continue: a finished prefix is learnt on as it is, its MLP was not kept",
                hint="leave out --projection (or add --no-projection)",
            )


def refuse_without_effect(settings: TrainSettings, tuner: str, kinds: Mapping[str, type[TrainSettings]]) -> None:
    """Raises UsageError when a setting of another tuner than the chosen one was given; `kinds` are those of each."""
    shared = {item.name for item in fields(TrainSettings)}
    own = {item.name for item in fields(kinds[tuner])} if tuner in kinds else shared
    for kind in kinds.values():
        for item in fields(kind):
            if item.name not in shared | own and attrgetter(item.name)(settings) != item.default:
                flag = flag_of(item).replace("_", "-")
                raise UsageError(
                    f"--{flag} is without effect with --tuner {tuner}", hint=f"leave out --{flag}, or --tuner"
                )
