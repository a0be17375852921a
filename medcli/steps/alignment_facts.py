"""What a person should see of a run that learns from better and worse: what it stays close to, and who judges it."""

from typing import Any

from medcli.core import model_ref, run_folder
from medcli.core.alignment_settings import DpoSettings, GrpoSettings, PpoSettings, RolloutSettings
from medcli.core.reward_terms import Term, terms_of
from medcli.core.train_settings import TrainSettings


def facts_of(settings: TrainSettings) -> list[tuple[str, Any]]:
    """Labels and values; nothing for methods that imitate."""
    if isinstance(settings, DpoSettings):
        return [("reference", _reference(settings))]
    if isinstance(settings, RolloutSettings):
        answers = f"{_answers(settings):,}, of at most {settings.max_tokens:,} tokens"
        return [
            ("answers a step", answers),
            ("reward", ", ".join(_said(term, settings) for term in rewards_of(settings))),
        ]
    return []


def is_model(term: Term) -> bool:
    """Whether a reward is a model that is held beside the policy or in it; else it is a service, a rule or a file."""
    is_run = run_folder.named(term.name).exists or "/" in term.name
    return is_run and not term.is_address and not term.is_file


def in_policy(settings: RolloutSettings, reward: str) -> bool:
    """Whether a reward model is an adapter over the policy's own weights, which ppo makes use of."""
    from medcli.engine.actor import shares

    ppo = isinstance(settings, PpoSettings)
    return ppo and shares(model_ref.resolve(settings.model), model_ref.resolve(reward))


def _reference(settings: DpoSettings) -> str:
    if not settings.has_reference:
        return f"none with --loss {settings.loss}"
    before = "the model without its adapters" if settings.tuner == "lora" else "the model as it is now"
    return f"{before}, asked once before the first step"


def _answers(settings: RolloutSettings) -> int:
    return settings.rollouts if isinstance(settings, PpoSettings) else settings.batch * settings.accumulate


def rewards_of(settings: RolloutSettings) -> list[Term]:
    """What judges the answers of a policy."""
    if isinstance(settings, GrpoSettings):
        return terms_of(settings.reward)
    assert isinstance(settings, PpoSettings)  # no other method draws answers
    return [Term(name=settings.reward, weight=1.0)]


def _said(term: Term, settings: RolloutSettings) -> str:
    times = "" if term.weight == 1 else f" × {term.weight:g}"
    if not is_model(term):
        return f"{term.name}{times}"
    how = "an adapter over the policy's own weights" if in_policy(settings, term.name) else "a model of its own"
    return f"{term.name}{times} ({how})"
