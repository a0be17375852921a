"""P-Tuning v2: a prefix of keys and values, learnt for each layer, that the frozen model reads before every text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcli.core.reading import DIALOGUES
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import Loading
from medcli.core.tuner_settings import PrefixSettings

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

HELP = "train a prefix that a frozen model reads before every text (P-Tuning v2)"
READS = DIALOGUES


@dataclass(frozen=True, kw_only=True)
class Settings(PrefixSettings):
    """The prefix's settings beside those of all training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_prefix()


def loading(settings: Settings) -> Loading:
    """How the model is to be loaded."""
    return Loading(trainable=settings.continue_run, prefix=settings.length)


def prepare(loaded: "Loaded", settings: Settings) -> "Loaded":
    """The model with a prefix, the only thing that learns; ModelError when its layers cannot read one."""
    from medcli.engine import prefix

    return prefix.prepare(loaded, settings)


def train(
    prepared: "Loaded", data: "Samples", valid: "Samples | None", settings: Settings, run: RunFolder, report: Report
) -> "Outcome":
    """Train the prefix, and save it to `run.adapter` unless a person stopped the run."""
    from medcli.engine import prefix

    return prefix.train(prepared, data, valid, settings, run, report)
