"""`med train METHOD`: one command per method on the shelf, its flags made from the method's settings."""

from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from medcli.cli.grouped import Grouped
from medcli.cli.options import Command, Json, Plan, settle, takes
from medcli.cli.recipe import From, Recipe, Resume, settings_below
from medcli.cli.train_end import show_end
from medcli.cli.train_plan import Gpu, show_plan
from medcli.core.errors import UsageError
from medcli.core.interruption import exit_code_of, interruption_by
from medcli.core.model_ref import TINY

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)


@app.callback(help="Fine-tune a model on a data set.")
def _group() -> None:
    return None


def _train(
    name: str,
    flags: dict[str, Any],
    *,
    resume: bool,
    source: Path | None,
    recipe: str,
    plan: bool,
    gpu: str,
    as_json: bool,
) -> None:
    from medcli.cli import console, processes
    from medcli.steps import launch, train

    if gpu and not plan:
        raise UsageError("--gpu is only for plans", hint="add --plan; --device chooses where a run takes place")
    run = train.run_to_resume(name, flags.get("run", "")) if resume else None
    below = settings_below(name, recipe, source, run)
    resolved = settle(train.METHODS.get(name).Settings, f"train.{name}", flags, **below)
    resolved = launch.settled(resolved, train.METHODS.get(name).loading(resolved.values).quant, run)
    if launch.is_needed(resolved.values) and not plan:
        raise typer.Exit(launch.start(processes.words(), resolved.values, console.note))
    run = launch.same_run(lambda: run or train.new_run(name, resolved.values), resolved.values)
    if resolved.values.model == TINY and resolved.origins["model"] == "default":
        console.note(f"base model: {TINY}, a small demonstration made here; choose another with --model or med.toml")
    if plan:
        show_plan(name, resolved, gpu, as_json)
        return
    with launch.held(run):
        with console.watching() as report:
            prepared = train.prepare(name, resolved, report)
        _preflight(prepared)
        with console.watching() as report:
            outcome = train.carry_out(prepared, run, report)
        if launch.is_first():
            show_end(run, outcome, as_json)
        launch.part()
    if outcome.interrupted:
        raise typer.Exit(exit_code_of(interruption_by(outcome.interrupted_by)))


def _preflight(prepared: Any) -> None:
    from medcli.cli import console

    console.note("one sample, as the model will see it; what it learns is green (or in ⟦ ⟧):")
    console.show_segments([(segment.text, segment.trained) for segment in prepared.sample])
    for label, value in prepared.facts:
        console.note(f"  {label:<22}{value:,}" if isinstance(value, int) else f"  {label:<22}{value}")
    for warning in prepared.warnings:
        console.note(f"! {warning}", style="yellow")


def _command(name: str, method: ModuleType) -> Command:
    @takes(method.Settings)
    def command(
        *,
        resume: Resume = False,
        source: From = None,
        recipe: Recipe = "",
        plan: Plan = False,
        gpu: Gpu = "",
        as_json: Json = False,
        flags: dict[str, Any],
    ) -> None:
        _train(name, flags, resume=resume, source=source, recipe=recipe, plan=plan, gpu=gpu, as_json=as_json)

    return command


def _register() -> None:
    from medcli.steps.train import METHODS

    for name in METHODS.names():
        method = METHODS.get(name)
        app.command(name, cls=Grouped, help=f"{method.HELP[0].upper()}{method.HELP[1:]}.")(_command(name, method))


_register()
