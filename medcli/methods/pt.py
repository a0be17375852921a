"""Continued pre-training: the model reads plain text, so that it knows the words and facts of the field."""

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from medcli.core.errors import UsageError
from medcli.core.record import Document
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.settings import flag_of, setting
from medcli.core.train_settings import Loading, TrainSettings
from medcli.core.tuner_settings import FreezeSettings, LoraSettings

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

HELP = "go on pre-training a model on plain text"
RECORD = Document
_OF_TUNER = {"lora": LoraSettings, "freeze": FreezeSettings}


@dataclass(frozen=True, kw_only=True)
class Settings(LoraSettings, FreezeSettings):
    """The tuner, and the settings of each of them."""

    tuner: Literal["lora", "freeze", "full"] = setting("lora", help="What learns: adapters, some layers, or all.")
    epochs: float = setting(1.0, help="Passes over the data.", minimum=0.0)

    def __post_init__(self) -> None:
        for tuner, kind in _OF_TUNER.items():
            if tuner != self.tuner:
                self._refuse_without_effect(kind)
        if self.tuner == "lora":
            self.check_adapters()
        if self.tuner == "freeze":
            self.check_layers()

    def _refuse_without_effect(self, kind: type[LoraSettings] | type[FreezeSettings]) -> None:
        shared = {item.name for item in fields(TrainSettings)}
        for item in fields(kind):
            if item.name not in shared and attrgetter(item.name)(self) != item.default:
                flag = flag_of(item).replace("_", "-")
                raise UsageError(
                    f"--{flag} is without effect with --tuner {self.tuner}", hint=f"leave out --{flag}, or --tuner"
                )


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
