"""Low-rank adapters on a frozen model: small, fast, the place to start."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcli.core.reading import DIALOGUES
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import Loading
from medcli.core.tuner_settings import LoraSettings

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

HELP = "train low-rank adapters on a frozen model (LoRA, QLoRA)"
READS = DIALOGUES


@dataclass(frozen=True, kw_only=True)
class Settings(LoraSettings):
    """The adapters' settings beside those of all training."""

    def __post_init__(self) -> None:
        self.check_adapters()


def loading(settings: Settings) -> Loading:
    """How the model is to be loaded."""
    return Loading(quant=settings.quant, trainable=settings.continue_run)


def prepare(loaded: "Loaded", settings: Settings) -> "Loaded":
    """The model with adapters, the only thing that learns; ModelError when no layer bears a target's name."""
    from medcli.engine import lora

    return lora.prepare(loaded, settings)


def train(
    prepared: "Loaded", data: "Samples", valid: "Samples | None", settings: Settings, run: RunFolder, report: Report
) -> "Outcome":
    """Train what `prepare` laid over the model, and save it to `run.adapter` unless a person stopped the run."""
    from medcli.engine import lora

    return lora.train(prepared, data, valid, settings, run, report)
