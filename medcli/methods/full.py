"""Every weight of the model learns: the most memory, and the most that can be learnt."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcli.core.reading import DIALOGUES
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.settings import setting
from medcli.core.train_settings import Loading, TrainSettings

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

HELP = "train every weight of a model"
READS = DIALOGUES


@dataclass(frozen=True, kw_only=True)
class Settings(TrainSettings):
    """A tenth of LoRA's rate: what MedicalGPT and DISC-MedLLM took for whole models of 7 billion weights."""

    learning_rate: float = setting(2e-5, flag="lr", help="Peak learning rate.", minimum=0.0)


def loading(settings: Settings) -> Loading:
    """How the model is to be loaded."""
    return Loading()


def prepare(loaded: "Loaded", settings: Settings) -> "Loaded":
    """The model with every weight learning."""
    from medcli.engine import full

    return full.prepare(loaded, settings)


def train(
    prepared: "Loaded", data: "Samples", valid: "Samples | None", settings: Settings, run: RunFolder, report: Report
) -> "Outcome":
    """Train the whole model, and save it to `run.model` unless a person stopped the run."""
    from medcli.engine import full

    return full.train(prepared, data, valid, settings, run, report)
