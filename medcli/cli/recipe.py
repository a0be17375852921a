"""What a run's settings start from, below flags, environment and med.toml: another run, or a recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from medcli.core.errors import UsageError
from medcli.core.recipes import Recipe as RecipeFile
from medcli.core.recipes import listing, recipe_for
from medcli.core.run_folder import RunFolder
from medcli.core.settings import project_recipe
from medcli.core.world import started_by_med

Resume = Annotated[bool, typer.Option("--resume", help="Go on with --run (or the newest unfinished run) exactly.")]
From = Annotated[Path | None, typer.Option("--from", help="Take the settings of another run's run.toml.")]
Recipe = Annotated[
    str, typer.Option("--recipe", metavar="NAME", help=f"Take the settings of a published system: {listing()}.")
]


def settings_below(method: str, recipe: str, source: Path | None, resumed: RunFolder | None) -> dict[str, Any]:
    """The keywords of `settle` for the lowest layer; says what a recipe is, and what was corrected in it.

    Raises UsageError when more than one layer is named.
    """
    from medcli.steps import train

    named = [flag for flag, given in (("--resume", resumed), ("--from", source), ("--recipe", recipe)) if given]
    if len(named) > 1:
        raise UsageError(
            f"{' and '.join(named)} cannot be used together", hint=f"leave out {named[-1]}: each brings all settings"
        )
    path = resumed.path if resumed else source
    if recipe := recipe or ("" if path else project_recipe(method)):
        found = recipe_for(recipe, method)
        _say(found)
        return _layer(found.settings, f"recipe {found.name}")
    return _layer(train.settings_of_run(path), f"run {_name_of(path)}") if path else {}


def _say(recipe: RecipeFile) -> None:
    """What the recipe is, once: of several processes, the one that starts the others says it."""
    from medcli.cli import console

    lines = [f"recipe {recipe.name}: {recipe.about}", f"  source: {recipe.source}"]
    for line in [*lines, *(f"  corrected: {line}" for line in recipe.corrected)]:
        if not started_by_med():
            console.note(line)


def _layer(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"recipe": settings, "recipe_name": name}


def _name_of(path: Path) -> str:
    """The run's name; `path` is its folder or the run.toml in it."""
    return path.resolve().name if path.is_dir() else path.resolve().parent.name
