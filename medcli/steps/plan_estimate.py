"""What each kind of method takes: its own step rehearsed, and all that it does beside its steps."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medcli.core import model_ref
from medcli.core.alignment_settings import DpoSettings, GrpoSettings, PpoSettings, RewardSettings, RolloutSettings
from medcli.core.report import Silent
from medcli.core.train_settings import TrainSettings
from medcli.steps.alignment_facts import in_policy, is_model, rewards_of
from medcli.steps.train import Prepared

if TYPE_CHECKING:
    import torch

    from medcli.engine.estimate import Estimate, Target
    from medcli.engine.objective import Objective
    from medcli.engine.rollout_estimate import Drawing


def estimated(prepared: Prepared, target: "Target") -> "Estimate":
    """What the whole run takes."""
    from medcli.engine import estimate, rollout_estimate
    from medcli.engine.pack import Prompts

    settings, data = prepared.resolved.values, prepared.data
    how: dict[str, Any] = {
        "quant": prepared.method.loading(settings).quant,
        "target": target,
        "steps": prepared.steps,
    }
    if isinstance(settings, RolloutSettings) and isinstance(data, Prompts):
        drawing = drawing_of(prepared, settings)
        return rollout_estimate.estimate(prepared.loaded, settings, data, drawing, **how)
    objective, before = objective_of(prepared, settings), _read_before(prepared, settings)
    return estimate.estimate(prepared.loaded, settings, data, **how, objective=objective, read_before=before)


def most(prepared: Prepared, settings: TrainSettings, target: "Target") -> float:
    """The bytes that the run would hold at one time, at most, with other `settings`."""
    from medcli.engine import estimate

    if isinstance(settings, RolloutSettings):
        changed = replace(prepared, resolved=replace(prepared.resolved, values=settings))
        return estimated(changed, target).total.high
    row = estimate.longest_row(prepared.data, settings)
    quant, objective = prepared.method.loading(settings).quant, objective_of(prepared, settings)
    return estimate.total_bytes(prepared.loaded, settings, row, quant=quant, target=target, objective=objective)


def objective_of(prepared: Prepared, settings: TrainSettings) -> "Objective | None":
    """What the run minimises, when that is not the model's own loss; its tensors are on the CPU, as a rehearsal's."""
    import torch

    from medcli.engine.outline import Outline
    from medcli.engine.pack import Pairs

    loaded = prepared.loaded
    assert isinstance(loaded, Outline)  # a plan has nothing else
    loaded = replace(loaded, place=torch.device("cpu"))
    if isinstance(settings, RewardSettings):
        from medcli.engine.reward import PairwiseReward

        return PairwiseReward(loaded, settings)
    if isinstance(settings, DpoSettings) and isinstance(prepared.data, Pairs):
        from medcli.engine import dpo

        return dpo.rehearsed(loaded, settings, prepared.data)
    return None


def _read_before(prepared: Prepared, settings: TrainSettings) -> float:
    """How often all pairs are read by the reference before the first step: once, those held out as well."""
    if not isinstance(settings, DpoSettings) or not settings.has_reference:
        return 0.0
    return 1 + len(prepared.valid or ()) / len(prepared.data)


def drawing_of(prepared: Prepared, settings: RolloutSettings) -> "Drawing":
    """How the method draws its answers, and what it holds to have them judged."""
    from medcli.engine.rollout_estimate import Drawing

    models = [term.name for term in rewards_of(settings) if is_model(term)]
    judges = sum(judge_bytes(name, settings, prepared.loaded.device) for name in models)
    if isinstance(settings, PpoSettings):
        value_head = prepared.loaded.head.in_features + 1
        return Drawing(
            answers=settings.rollouts,
            together=min(settings.rollouts, settings.drawn_together),
            reads=3,  # by the policy, the reference and the judge
            passes=settings.ppo_epochs,
            beside=4 * value_head + judges,
            learning=value_head,
        )
    assert isinstance(settings, GrpoSettings)  # no other method draws answers
    answers = settings.batch * settings.accumulate
    return Drawing(
        answers=answers,
        together=min(answers, settings.drawn_together),
        reads=(settings.kl > 0) + len(models),
        passes=1,
        beside=judges,
    )


def judge_bytes(reward: str, settings: RolloutSettings, device: "torch.device") -> float:
    """What a reward model takes: its adapter where it is one over the policy's own weights, else all of it."""
    from medcli.engine import outline

    ref = model_ref.resolve(reward)
    last = ref.adapters[-1:]  # those before it are merged into the weights
    adapters = sum(file.stat().st_size for folder in last for file in folder.glob("*.safetensors"))
    own = 0 if in_policy(settings, reward) else outline.judge_bytes(ref, device=device, report=Silent())
    return float(own + adapters)
