"""Direct preference optimisation and its kin: the better answer is to become likelier than the worse one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcli.core.alignment_settings import DpoSettings
from medcli.core.reading import PAIRS
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import Loading

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

HELP = "train on pairs of answers directly (DPO, IPO, SimPO, ORPO, KTO)"
READS = PAIRS


@dataclass(frozen=True, kw_only=True)
class Settings(DpoSettings):
    """The preference loss's settings beside those of the tuner."""


def loading(settings: Settings) -> Loading:
    """How the model is to be loaded."""
    return Loading(quant=settings.quant)


def prepare(loaded: "Loaded", settings: Settings) -> "Loaded":
    """The model with adapters, or with every weight learning."""
    from medcli.engine import dpo

    return dpo.prepare(loaded, settings)


def train(
    prepared: "Loaded", data: "Samples", valid: "Samples | None", settings: Settings, run: RunFolder, report: Report
) -> "Outcome":
    """Train what `prepare` chose, and save it unless a person stopped the run."""
    from medcli.engine import dpo

    return dpo.train(prepared, data, valid, settings, run, report)
