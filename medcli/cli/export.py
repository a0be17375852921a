"""`med export MODEL`."""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from medcli.cli.options import Json, settle, takes
from medcli.core.errors import UsageError
from medcli.steps.export import Settings

app = typer.Typer(rich_markup_mode=None, add_completion=False)

MODEL_HELP = "A run, a model folder, a hub id or med-tiny."
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
Yes = Annotated[bool, typer.Option("--yes", help="Push without asking.")]


@app.command(help="Write a model for other programs: safetensors, GGUF, Ollama, few bits; with card and hashes.")
@takes(Settings)
def export(model: Model, *, yes: Yes = False, as_json: Json = False, flags: dict[str, Any]) -> None:
    from medcli.cli import console
    from medcli.steps import export as step

    settings = settle(Settings, "export", flags).values
    if settings.push and not yes and not _agrees(settings):
        console.note("nothing is exported")
        return
    with console.watching() as report:
        exported = step.export(model, settings, report)
    if as_json:
        console.show_json(asdict(exported) | {"path": str(exported.path)})
        return
    console.say(f"{exported.path}: {exported.format}, {exported.bytes / 2**20:.1f} MiB, {', '.join(exported.files)}")
    for warning in exported.warnings:
        console.note(f"licences: {warning}")
    console.say(f"pushed: {exported.pushed}" if exported.pushed else f"next:  {_next(exported)}")


def _agrees(settings: Settings) -> bool:
    """Whether a person lets the model be pushed; raises UsageError where nobody can be asked."""
    from medcli.cli import console

    seen = "for everybody to see" if settings.public else "as a private model"
    if not sys.stdin.isatty():
        raise UsageError(f"nobody is here to ask whether to push to {settings.push}, {seen}", hint="add --yes")
    return typer.confirm(console.words(f"Push to {settings.push}, {seen}, when it is ready?"), err=True)


def _next(exported: Any) -> str:
    """What can be done with the folder."""
    gguf = next((name for name in exported.files if name.endswith(".gguf")), "")
    lines = {
        "gguf": f"llama-cli -m {exported.path / gguf}",
        "ollama": f"cd {exported.path} && ollama create {exported.path.name.lower()} -f Modelfile",
    }
    return lines.get(exported.format, f"sha256sum --check SHA256SUMS    (in {exported.path})")
