"""Proximal policy optimisation: the model answers, a reward model judges, and better answers become likelier."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcli.core.alignment_settings import PpoSettings
from medcli.core.reading import PROMPTS
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import Loading

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

HELP = "train a model on its own answers, judged by a reward model (PPO)"
READS = PROMPTS


@dataclass(frozen=True, kw_only=True)
class Settings(PpoSettings):
    """The settings of the policy, of its adapters, and of the answers it draws."""


def loading(settings: Settings) -> Loading:
    """How the model is to be loaded."""
    return Loading(quant=settings.quant)


def prepare(loaded: "Loaded", settings: Settings) -> "Loaded":
    """The model with adapters, a head for values, and what judges it; ModelError when that is no reward model."""
    from medcli.engine import actor

    return actor.prepare(loaded, settings)


def train(
    prepared: "Loaded", data: "Samples", valid: "Samples | None", settings: Settings, run: RunFolder, report: Report
) -> "Outcome":
    """Train the policy, and save its adapters to `run.adapter` unless a person stopped the run."""
    from medcli.engine import ppo
    from medcli.engine.actor import Actor
    from medcli.engine.pack import Prompts

    assert isinstance(prepared, Actor)
    assert isinstance(data, Prompts)
    assert valid is None or isinstance(valid, Prompts)
    return ppo.train(prepared, data, valid, settings, run, report)
