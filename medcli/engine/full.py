"""Train every weight of a model, and save the whole of it."""

from pathlib import Path

from medcli.core.atomic import folder_aside
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import TrainSettings
from medcli.engine import trainer
from medcli.engine.loaded import Loaded
from medcli.engine.objective import Objective
from medcli.engine.pack import Samples
from medcli.engine.trainer import Outcome


def prepare(loaded: Loaded, settings: TrainSettings) -> Loaded:
    """The model with every weight learning, in float32: half precision would lose small updates."""
    loaded.model.float().requires_grad_(True)
    return loaded


def train(
    thawed: Loaded,
    data: Samples,
    valid: Samples | None,
    settings: TrainSettings,
    run: RunFolder,
    report: Report,
    objective: Objective | None = None,
) -> Outcome:
    """Train the whole model, and save it to `run.model` unless a person stopped the run."""
    outcome = trainer.train(thawed, data, valid, settings, run, report, objective=objective)
    if outcome.is_saved_here:
        _save(thawed, run.model)
    return outcome


def _save(loaded: Loaded, target: Path) -> None:
    """Write the model as it was stored, its tokenizer and its chat template as a plain folder, whole or not at all."""
    model, before = loaded.model, loaded.model.config.dtype
    with folder_aside(target) as aside:
        model.config.dtype = loaded.stored
        weights = {name: value.to(loaded.stored) for name, value in model.state_dict().items()}
        model.save_pretrained(aside, state_dict=weights)
        model.config.dtype = before
        loaded.tokenizer.chat_template = loaded.template.text
        loaded.tokenizer.save_pretrained(aside)
