"""`med quickstart`: the whole life of a small model."""

from typing import TYPE_CHECKING, Any

import typer

from medcli.cli.options import Json, settle, takes
from medcli.core.speaker import TINY_DISCLAIMER
from medcli.steps.quickstart import Settings

if TYPE_CHECKING:
    from medcli.steps.full_tour import FullTour
    from medcli.steps.quickstart import Tour

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    help="Data, base model, LoRA, exam before and after, merge, an answer: the main job in about three minutes, "
    "with no download. Writes data/knowledge and runs/quickstart here. --full takes every stage: text, answers, a "
    "reward model, PPO and DPO, each held against what it is to reach."
)
@takes(Settings)
def quickstart(*, as_json: Json = False, flags: dict[str, Any]) -> None:
    from medcli.cli import console

    settings = settle(Settings, "quickstart", flags).values
    if not as_json:
        console.note(TINY_DISCLAIMER)
    (_full if settings.full else _short)(settings, as_json)


def _short(settings: Settings, as_json: bool) -> None:
    from dataclasses import asdict

    from medcli.cli import console
    from medcli.steps.quickstart import quickstart

    with console.watching() as report:
        tour = quickstart(settings, report, report.note)
    if as_json:
        console.show_json(asdict(tour) | {"run": str(tour.run), "merged": str(tour.merged)})
        return
    _show_answer(tour)
    assert tour.before is not None and tour.after is not None  # the tour has ended
    exact = [("exact answers, base", f"{tour.before.value:.1%}"), ("exact answers, LoRA", f"{tour.after.value:.1%}")]
    console.show_table(("part", "result"), [*_times(tour), *exact])
    _show_next(tour.run.name)


def _full(settings: Settings, as_json: bool) -> None:
    from dataclasses import asdict

    from medcli.cli import console
    from medcli.steps.full_tour import full_tour

    with console.watching() as report:
        tour = full_tour(settings, report, report.note)
    if as_json:
        runs = {stage: str(run.path) for stage, run in tour.runs.items()}
        console.show_json(asdict(tour) | {"runs": runs, "merged": str(tour.merged)})
        return
    _show_answer(tour)
    console.show_table(("part", "result"), _times(tour))
    console.say("")
    rows = [(goal.stage, goal.wanted, goal.found, "yes" if goal.met else "NO") for goal in tour.goals]
    console.show_table(("stage", "goal", "found", "met"), rows)
    _show_next(tour.merged.parent.name)


def _show_answer(tour: "Tour | FullTour") -> None:
    from medcli.cli import console

    console.say("")
    console.say(f"问：{tour.question}")
    console.say(f"答：{tour.answer}")
    console.say("")


def _times(tour: "Tour | FullTour") -> list[tuple[str, str]]:
    rows = [(name, f"{seconds:.1f} s") for name, seconds in tour.seconds.items()]
    return [*rows, ("all", f"{sum(tour.seconds.values()):.1f} s"), ("peak memory", f"{tour.peak_gib:.1f} GiB")]


def _show_next(run: str) -> None:
    from medcli.cli import console

    console.say("")
    console.say("go on:")
    console.say(f"  med chat {run:<34} talk with it")
    console.say("  med data build NAME --raw DIR               your own data (`med data list`)")
    console.say("  med train lora --dataset NAME --model REF   your own model")
