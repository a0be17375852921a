"""Low-rank adapters on a frozen model: small, fast, the place to start."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from medcli.core.errors import UsageError
from medcli.core.record import Conversation
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.settings import setting
from medcli.core.train_settings import TrainSettings

if TYPE_CHECKING:
    from medcli.engine.load import Loaded
    from medcli.engine.pack import Examples
    from medcli.engine.trainer import Outcome

HELP = "train low-rank adapters on a frozen model (LoRA)"
RECORD = Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(TrainSettings):
    """LoRA's own settings. All linear layers and ten times full tuning's rate are what serves best (Schulman 2025)."""

    rank: int = setting(16, help="Rank of the update matrices.", minimum=1)
    alpha: int = setting(32, help="Scale of the update: alpha / rank.", minimum=1)
    dropout: float = setting(0.0, help="Dropout on the adapter's input.", minimum=0.0)
    targets: tuple[str, ...] = setting(
        ("all-linear",), help="Layers that get an adapter, by name, with commas between."
    )
    dora: bool = setting(False, help="Weight-decomposed adapters (DoRA): a little better, a third slower.")
    rslora: bool = setting(False, help="Scale by alpha / sqrt(rank): steadier at high ranks.")
    init: Literal["default", "pissa"] = setting("default", help="pissa starts from the weights' main directions.")

    def __post_init__(self) -> None:
        if self.dropout >= 1:
            raise UsageError(f"--dropout: {self.dropout} leaves nothing", hint="use a share below 1, such as 0.05")
        if "lm_head" in self.targets and self.packing:
            # The adapter's part would be lost in silence.
            raise UsageError("--targets lm_head: the fast loss reads the head's own weight", hint="add --no-packing")


def prepare(loaded: "Loaded", settings: Settings) -> "Loaded":
    """The model with new adapters, the only thing that learns; ModelError when no layer bears a target's name."""
    from medcli.engine import lora, trainer

    # DoRA needs the frozen weights' exact norms.
    half = trainer.precision_of(settings, loaded.device) == "bf16" and not settings.dora
    return lora.lay_over(
        loaded,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
        targets=settings.targets,
        dora=settings.dora,
        rslora=settings.rslora,
        init=settings.init,
        half=half,
    )


def train(
    adapted: "Loaded", data: "Examples", valid: "Examples | None", settings: Settings, run: RunFolder, report: Report
) -> "Outcome":
    """Train what `prepare` laid over the model, and save it to `run.adapter` unless a person stopped the run."""
    from medcli.engine import lora, trainer

    if settings.init == "pissa":
        lora.keep_first(adapted, run.adapter)
    outcome = trainer.train(adapted, data, valid, settings, run, report)
    if not outcome.interrupted:
        lora.save(adapted, run.adapter)
    return outcome
