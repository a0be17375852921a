"""`med quickstart`: the whole life of a small model."""

from typing import Any

import typer

from medcli.cli.options import Json, settle, takes
from medcli.core.speaker import TINY_DISCLAIMER
from medcli.steps.quickstart import Settings

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    help="Data, base model, LoRA, exam before and after, merge, an answer: the main job in about three minutes, "
    "with no download. Writes data/knowledge and runs/quickstart here."
)
@takes(Settings)
def quickstart(*, as_json: Json = False, flags: dict[str, Any]) -> None:
    from dataclasses import asdict

    from medcli.cli import console
    from medcli.steps import quickstart as step

    settings = settle(Settings, "quickstart", flags).values
    if not as_json:
        console.note(TINY_DISCLAIMER)
    with console.watching() as report:
        tour = step.quickstart(settings, report, report.note)
    if as_json:
        console.show_json(asdict(tour) | {"run": str(tour.run), "merged": str(tour.merged)})
        return
    _show(tour)


def _show(tour: Any) -> None:
    from medcli.cli import console

    rows = [(name, f"{seconds:.1f} s") for name, seconds in tour.seconds.items()]
    rows += [("all", f"{sum(tour.seconds.values()):.1f} s"), ("peak memory", f"{tour.peak_gib:.1f} GiB")]
    rows += [("exact answers, base", f"{tour.before.value:.1%}"), ("exact answers, LoRA", f"{tour.after.value:.1%}")]
    console.say("")
    console.say(f"问：{tour.question}")
    console.say(f"答：{tour.answer}")
    console.say("")
    console.show_table(("part", "result"), rows)
    console.say("")
    console.say("go on:")
    console.say(f"  med chat {tour.run.name}                         talk with it")
    console.say("  med data build NAME --raw DIR               your own data (`med data list`)")
    console.say("  med train lora --dataset NAME --model REF   your own model")
