"""The last lines of `med train`: what came of the run, and what can be done with it now."""

from typing import TYPE_CHECKING

from medcli.core.run_folder import RunFolder

if TYPE_CHECKING:
    from medcli.engine.trainer import Outcome

# What a run's last line says, in order: key -> word.
_RESULTS = {
    "loss": "loss",
    "eval_loss": "valid loss",
    "eval_accuracy": "valid pairs right",
    "reward": "reward",
    "eval_reward": "held-out reward",
    "kl": "KL",
}


def show_end(run: RunFolder, outcome: "Outcome", as_json: bool) -> None:
    """Print what came of a run, and what to do with it."""
    from medcli.cli import console
    from medcli.core.model_ref import resolve
    from medcli.steps.merge import can_merge

    figures = {**outcome.figures, **outcome.facts}
    if as_json:
        console.show_json({"run": str(run.path), "steps": outcome.steps, "total": outcome.total,
                           "interrupted": outcome.interrupted, "seconds": outcome.seconds, **figures})  # fmt: skip
    elif outcome.interrupted:
        console.say(f"stopped after step {outcome.steps} of {outcome.total}; nothing is lost")
        console.say(f"go on with:  med train {run.table()['run']['method']} --resume --run {run.name}")
    else:
        ref = resolve(str(run.path))
        found = {
            key: word for key, word in _RESULTS.items() if key in figures and not (ref.is_reward and "reward" in key)
        }
        said = ", ".join(f"{word} {figures[key]:.4g}" for key, word in found.items())
        console.say(f"{run.path}: {outcome.steps} steps in {outcome.seconds:.0f} s, {said}")
        if ref.is_reward:
            console.say(f"next:  med eval {run.name} --dataset PAIRS    med train ppo --reward {run.name} --model …")
            return
        merging = f"    med merge {run.name}" if can_merge(ref) else ""
        console.say(f"next:  med chat {run.name}    med eval {run.name} --dataset …{merging}")
