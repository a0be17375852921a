"""`med quickstart`: the whole life of a small model."""

from collections.abc import Mapping
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
    shares = {"exact answers, base": tour.before.value, "exact answers, LoRA": tour.after.value}
    _show_results({**_times(tour), **{name: f"{share:.1%}" for name, share in shares.items()}})
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
    _show_results(_times(tour))
    console.say("")
    words = console.words
    rows = [
        (goal.stage, words(goal.wanted), words(goal.found), words("yes" if goal.met else "NO")) for goal in tour.goals
    ]
    console.show_table((words("stage"), words("goal"), words("found"), words("met")), rows)
    _show_next(tour.merged.parent.name)


def _show_answer(tour: "Tour | FullTour") -> None:
    from medcli.cli import console

    console.say("")
    console.show_text(f"{console.words('asked')}: {tour.question}")
    console.show_text(f"{console.words('answered')}: {tour.answer}")
    console.say("")


def _times(tour: "Tour | FullTour") -> dict[str, str]:
    parts = {name: f"{seconds:.1f} s" for name, seconds in tour.seconds.items()}
    return {**parts, "all": f"{sum(tour.seconds.values()):.1f} s", "peak memory": f"{tour.peak_gib:.1f} GiB"}


def _show_results(results: Mapping[str, str]) -> None:
    from medcli.cli import console

    rows = [(console.words(name), value) for name, value in results.items()]
    console.show_table((console.words("part"), console.words("result")), rows)


def _show_next(run: str) -> None:
    from medcli.cli import console

    console.say("")
    console.say("go on:")
    for command, what in (
        (f"med chat {run}", console.words("talk with it")),
        ("med init", console.words("set up a project of your own: model, data, method")),
        ("med data build FILE --name NAME", console.words("your own data; `med data list` has known sets")),
        ("med train lora --dataset NAME", console.words("your own model")),
    ):
        console.show_text(f"  {command:<34} {what}")
