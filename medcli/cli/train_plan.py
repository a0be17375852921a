"""`med train METHOD --plan`: settings with their origins, the run in figures, memory, hours, and whether it fits."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from medcli.core.settings import Resolved
from medcli.core.train_settings import TrainSettings

if TYPE_CHECKING:
    from medcli.steps.plan import Planned

GIB = 2**30
Gpu = Annotated[
    str, typer.Option("--gpu", help="With --plan: the GPU to plan for, such as 24GB or 'RTX 4090'; default --device.")
]


def show_plan(name: str, resolved: Resolved[TrainSettings], gpu: str, as_json: bool) -> None:
    """Plan the run and print it."""
    from medcli.cli import console
    from medcli.steps.plan import plan

    with console.watching() as report:
        planned = plan(name, resolved, report, gpu=gpu)
    if as_json:
        console.show_json(_json(planned))
        return
    console.show_table(("setting", "value", "from"), resolved.rows(), title="Settings")
    console.say("")
    console.show_table(("plan", ""), planned.facts)
    console.say("")
    rows = [(part, *_gib(found)) for part, found in [*planned.estimate.parts, ("at one time", planned.estimate.total)]]
    console.show_table((f"memory on {planned.where}, GiB", "low", "expected", "high"), rows)
    _say_what_follows(planned)
    for warning in planned.prepared.warnings:
        console.say(f"! {warning}", style="yellow")


def _say_what_follows(planned: "Planned") -> None:
    from medcli.cli import console

    console.say(f"{planned.verdict}: {planned.available / GIB:.1f} GiB are there")
    if planned.estimate.guessed:
        console.say("this model's step could not be rehearsed: activations and hours are by rule of thumb")
    if planned.changes:
        console.show_table(
            ("to need less", "GiB at most"), [(one.flags, round(one.bytes / GIB, 2)) for one in planned.changes]
        )
    if planned.verdict != "fits" and all(one.bytes > planned.available for one in planned.changes):
        console.say("to need far less: a smaller model, or adapters on few bits, `med train lora --quant 4bit`")
    if planned.hours is None:
        console.say(f"no hours: {planned.speed}")
    else:
        low, expected, high = (_time(value) for value in _three(planned.hours))
        console.say(f"time: {low} – {expected} – {high}, at {planned.speed}")


def _json(planned: "Planned") -> dict[str, Any]:
    parts = [*planned.estimate.parts, ("at one time", planned.estimate.total)]
    names = ("low", "expected", "high")
    return {
        "settings": {
            name: {"value": value, "origin": origin} for name, value, origin in planned.prepared.resolved.rows()
        },
        "plan": dict(planned.facts),
        "memory": {
            "device": planned.where,
            "gib": {part: dict(zip(names, _gib(found), strict=True)) for part, found in parts},
            "available_gib": round(planned.available / GIB, 3),
            "verdict": planned.verdict,
            "by_rule_of_thumb": planned.estimate.guessed,
            "changes": [{"flags": one.flags, "gib": round(one.bytes / GIB, 3)} for one in planned.changes],
        },
        "time": {
            "operations": planned.estimate.operations,
            "hours": dict(zip(names, _three(planned.hours), strict=True)) if planned.hours else None,
            "speed": planned.speed,
        },
        "warnings": planned.prepared.warnings,
    }


def _three(found: Any) -> tuple[float, float, float]:
    return found.low, found.expected, found.high


def _gib(found: Any) -> tuple[float, ...]:
    return tuple(round(value / GIB, 3) for value in _three(found))


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
