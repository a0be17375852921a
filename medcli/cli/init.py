"""`med init`: a few questions, a med.toml, three commands."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medcli.cli.options import Json, settle, takes
from medcli.core.errors import UsageError
from medcli.core.settings import PROJECT_FILE, find_project_file, project_table
from medcli.steps.init import Answers, Settings

if TYPE_CHECKING:
    from medcli.steps.hardware import Hardware

app = typer.Typer(rich_markup_mode=None, add_completion=False)

Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing: what no flag answers is as proposed.")]


@app.command(
    help="Set up a project here: language, purpose, base model that fits this machine, data, method. Shows what a run "
    "will take, writes med.toml, or changes the one that is there, and names three commands to go on with."
)
@takes(Settings)
def init(*, yes: Yes = False, as_json: Json = False, flags: dict[str, Any]) -> None:
    from medcli.cli import console
    from medcli.cli.init_questions import Questions
    from medcli.cli.wizard import Asker
    from medcli.steps import hardware
    from medcli.steps.init import commands, project_text

    settings = settle(Settings, "init", flags).values
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "nobody is here to answer the questions",
            hint="add --yes, and say by flags what is not as proposed: med init --yes --dataset FILE --model REF",
        )
    path = find_project_file(Path.cwd()) or Path.cwd() / PROJECT_FILE
    found = hardware.look(path.parent)
    asked = Questions(asker=Asker(silent=yes), given=settings, hardware=found, project=project_table())
    asked.speak()
    _show_hardware(found)
    answers = asked.answers()
    plan = _show_plan(answers, found)
    before = path.read_text("utf-8") if path.is_file() else ""
    after = project_text(before, answers, console.words)
    written = _write(path, before, after, asked.asker)
    following = commands(answers)
    if as_json:
        console.show_json({"file": str(path), "written": written, "commands": following, "plan": plan})
        return
    if written or before == after:
        _go_on(following, asked.asker)


def _show_hardware(found: "Hardware") -> None:
    from medcli.cli import console

    for gpu in found.gpus:
        console.note(f"GPU: {gpu.name}, {gpu.free:.1f} of {gpu.total:.1f} GiB free")
    if not found.gpus:
        console.note("no NVIDIA GPU: training takes place on the processor, which is slow for models of real size")
    console.note(
        f"processor: {found.cores} cores; memory: {found.free_memory:.1f} of {found.memory:.1f} GiB free; "
        f"disk: {found.free_disk:.0f} GiB free"
    )


def _show_plan(answers: Answers, found: "Hardware") -> dict[str, Any] | None:
    """What a run will take, by rule of thumb; None where there is nothing to train."""
    from dataclasses import asdict

    from medcli.cli import console
    from medcli.steps.rough_plan import model_of, rough_plan

    if answers.look is None:
        return None
    model = model_of(answers.model)
    if model is None:
        console.note(f"how large {answers.model} is, its name does not say: see `med train {answers.method} --plan`")
        return None
    plan = rough_plan(model, answers.method, answers.quant, answers.recipe, answers.look, found)
    console.note(
        f"memory: about {plan.memory:.1f} GiB of {plan.available:.1f} GiB free"
        if plan.fits
        else f"memory: about {plan.memory:.1f} GiB, and only {plan.available:.1f} GiB are free: take a smaller model",
        style="" if plan.fits else "yellow",
    )
    if plan.hours is None:
        console.note(f"time: known after the build, by `med train {answers.method} --plan`")
    else:
        low, high = map(_time, plan.hours)
        console.note(f"time: {low} to {high} for all epochs" if low != high else f"time: about {low} for all epochs")
    download, checkpoint, free = f"{plan.download:.1f}", f"{plan.checkpoint:.1f}", f"{plan.free_disk:.0f}"
    console.note(f"disk: {download} GiB to download, {checkpoint} GiB a checkpoint, {free} GiB free")
    console.note(f"these are rules of thumb; `med train {answers.method} --plan` rehearses a step")
    return asdict(plan)


def _time(hours: float) -> str:
    return f"{hours:.0f} h" if hours >= 3 else f"{max(1, round(hours * 60))} min"


def _write(path: Path, before: str, after: str, asker: Any) -> bool:
    """Show what changes and write it, when whoever is asked agrees."""
    from medcli.cli import console
    from medcli.steps.init import changes, write

    if before == after:
        console.note(f"{path} stays as it is")
        return False
    console.show_changes(changes(before, after))
    question = f"Change {path}?" if before else f"Write {path}?"
    if not asker.agrees(console.words(question)):
        console.note("nothing is written")
        return False
    write(path, after)
    console.note(f"written: {path}")
    return True


def _go_on(following: list[str], asker: Any) -> None:
    """Name the next commands, and run the first when a person wants it, as if it had been typed."""
    from medcli.cli import console

    console.say("go on:")
    for command in following:
        console.show_text(f"  {command}")
    if not asker.silent and asker.agrees(console.words(f"Run `{following[0]}` now?")):
        os.execv(sys.executable, [sys.executable, "-m", "medcli", *shlex.split(following[0])[1:]])
