"""Some of the model's own layers learn, the rest stays frozen: no adapter, and a fraction of full tuning's memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcli.core.reading import DIALOGUES
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.settings import setting
from medcli.core.train_settings import Loading
from medcli.core.tuner_settings import FreezeSettings

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

HELP = "train some layers of a model, the rest frozen"
READS = DIALOGUES


@dataclass(frozen=True, kw_only=True)
class Settings(FreezeSettings):
    """The layers that learn; at the rate of full tuning, for they are the model's own weights."""

    learning_rate: float = setting(2e-5, flag="lr", help="Peak learning rate.", minimum=0.0)

    def __post_init__(self) -> None:
        self.check_layers()


def loading(settings: Settings) -> Loading:
    """How the model is to be loaded."""
    return Loading()


def prepare(loaded: "Loaded", settings: Settings) -> "Loaded":
    """The model with nothing but the chosen layers learning; ModelError when it has no such part."""
    from medcli.engine import freeze

    return freeze.prepare(loaded, settings)


def train(
    prepared: "Loaded", data: "Samples", valid: "Samples | None", settings: Settings, run: RunFolder, report: Report
) -> "Outcome":
    """Train the chosen layers, and save their tensors to `run.adapter` unless a person stopped the run."""
    from medcli.engine import freeze

    return freeze.train(prepared, data, valid, settings, run, report)
