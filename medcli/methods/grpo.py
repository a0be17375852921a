"""Group relative policy optimisation: of several answers to a prompt those judged better become likelier."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medcli.core import model_ref, run_folder
from medcli.core.alignment_settings import GrpoSettings
from medcli.core.errors import UnknownNameError
from medcli.core.reading import PROMPTS, Asked
from medcli.core.record import Message
from medcli.core.report import Report, Silent
from medcli.core.reward_terms import Judge, Term, judge_of_file, terms_of
from medcli.core.rewarder import Rewarder
from medcli.core.run_folder import RunFolder
from medcli.core.shelf import Shelf
from medcli.core.train_settings import Loading

if TYPE_CHECKING:
    from medcli.engine.loaded import Loaded
    from medcli.engine.pack import Samples
    from medcli.engine.trainer import Outcome

HELP = "train a model on its own answers, compared in groups (GRPO)"
READS = PROMPTS
REWARDS = Shelf("medcli.rewards", "reward")


@dataclass(frozen=True, kw_only=True)
class Settings(GrpoSettings):
    """The settings of the policy, of its adapters, and of the answers it draws."""

    def __post_init__(self) -> None:
        super().__post_init__()
        terms_of(self.reward)


def loading(settings: Settings) -> Loading:
    """How the model is to be loaded."""
    return Loading(quant=settings.quant)


def prepare(loaded: "Loaded", settings: Settings) -> "Loaded":
    """The model with adapters, and what judges its answers; of an outline, which learns nothing, no judge is loaded.

    Raises UnknownNameError for a reward that nobody knows, UsageError for a file that does not run, ModelError for a
    model that does not judge, ServiceError for one that cannot be reached.
    """
    from medcli.engine import grpo, lora
    from medcli.engine.outline import Outline

    terms = terms_of(settings.reward)
    if isinstance(loaded, Outline):
        for term in terms:
            _rule(term)
        return lora.prepare(loaded, settings)
    judges = [_rule(term) or _model(term, loaded) for term in terms]
    rewards = [grpo.Reward(term=term, judge=judge) for term, judge in zip(terms, judges, strict=True)]
    return grpo.prepare(loaded, settings, rewards)


def train(
    prepared: "Loaded", data: "Samples", valid: "Samples | None", settings: Settings, run: RunFolder, report: Report
) -> "Outcome":
    """Train the policy, and save its adapters to `run.adapter` unless a person stopped the run."""
    from medcli.engine import grpo
    from medcli.engine.pack import Prompts

    assert isinstance(prepared, grpo.Judged)
    assert isinstance(data, Prompts)
    assert valid is None or isinstance(valid, Prompts)
    return grpo.train(prepared, data, valid, settings, run, report)


def _rule(term: Term) -> Judge | None:
    """What needs no model: a reward of the shelf or a file; None for a model or a service there may well be."""
    if term.is_file:
        return judge_of_file(term.name)
    if term.name in REWARDS.names():
        judge: Judge = REWARDS.get(term.name).rewards
        return judge
    is_here = run_folder.named(term.name).exists or Path(term.name).is_dir()
    if not (term.is_address or is_here or "/" in term.name):
        raise UnknownNameError("reward", term.name, [*REWARDS.names(), *model_ref.run_names()])
    if not term.is_address:
        from medcli.engine.actor import reward_ref

        reward_ref(term.name)
    return None


def _model(term: Term, loaded: "Loaded") -> Judge:
    if term.is_address:
        from medcli.engine.reward_service import open_reward_service

        return _judging(open_reward_service(term.name, Silent()))
    from medcli.engine.reward_model import open_reward_model

    ref = model_ref.resolve(term.name)
    return _judging(open_reward_model(ref, device=str(loaded.device), report=Silent()))


def _judging(rewarder: Rewarder) -> Judge:
    def judge(asked: Sequence[Asked], answers: Sequence[str]) -> list[float]:
        dialogues = [
            (*one.messages, Message(role="assistant", content=answer))
            for one, answer in zip(asked, answers, strict=True)
        ]
        return rewarder.rewards(dialogues, lambda done: None)

    return judge
