"""Continued pre-training: the model reads plain text, so that it knows the words and facts of the field."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from medcli.core.reading import DOCUMENTS
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.settings import setting
from medcli.core.train_settings import Loading
from medcli.core.tuner_settings import FreezeSettings, LoraSettings, refuse_without_effect

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

HELP = "go on pre-training a model on plain text"
READS = DOCUMENTS


@dataclass(frozen=True, kw_only=True)
class Settings(LoraSettings, FreezeSettings):
    """The tuner, and the settings of each of them."""

    tuner: Literal["lora", "freeze", "full"] = setting("lora", help="What learns: adapters, some layers, or all.")
    epochs: float = setting(1.0, help="Passes over the data.", minimum=0.0)

    def __post_init__(self) -> None:
        refuse_without_effect(self, self.tuner, {"lora": LoraSettings, "freeze": FreezeSettings})
        if self.tuner == "lora":
            self.check_adapters()
        if self.tuner == "freeze":
            self.check_layers()


def loading(settings: Settings) -> Loading:
    """How the model is to be loaded."""
    return Loading(quant=settings.quant, trainable=settings.continue_run)


def prepare(loaded: "Loaded", settings: Settings) -> "Loaded":
    """The model with what the tuner trains learning; ModelError when it has no such layer."""
    prepared: Loaded = _tuner(settings).prepare(loaded, settings)
    return prepared


def train(
    prepared: "Loaded", data: "Samples", valid: "Samples | None", settings: Settings, run: RunFolder, report: Report
) -> "Outcome":
    """Train what `prepare` chose, and save it as the tuner does unless a person stopped the run."""
    outcome: Outcome = _tuner(settings).train(prepared, data, valid, settings, run, report)
    return outcome


def _tuner(settings: Settings) -> Any:
    from medcli.engine import freeze, full, lora

    return {"lora": lora, "freeze": freeze, "full": full}[settings.tuner]
