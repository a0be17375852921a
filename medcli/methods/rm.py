"""A reward model: of two answers, the better one is to get the higher number."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcli.core.alignment_settings import RewardSettings
from medcli.core.reading import PAIRS
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import Loading

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

HELP = "train a reward model on pairs of answers"
READS = PAIRS


@dataclass(frozen=True, kw_only=True)
class Settings(RewardSettings):
    """The pairwise loss's settings beside those of the tuner."""


def loading(settings: Settings) -> Loading:
    """How the model is to be loaded."""
    return Loading(quant=settings.quant)


def prepare(loaded: "Loaded", settings: Settings) -> "Loaded":
    """The model with a head of one number, which learns beside adapters or with the whole model."""
    from medcli.engine import reward

    return reward.prepare(loaded, settings)


def train(
    prepared: "Loaded", data: "Samples", valid: "Samples | None", settings: Settings, run: RunFolder, report: Report
) -> "Outcome":
    """Train head and tuner, and save both unless a person stopped the run."""
    from medcli.engine import reward

    return reward.train(prepared, data, valid, settings, run, report)
