"""The settings of published medical systems, `templates/recipes/*.toml`: their source, and what was corrected."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from medcli.core.errors import UnknownNameError, UsageError
from medcli.core.resources import templates
from medcli.core.settings import read_toml


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a system was trained with.

    `corrected` says where `settings` are not what was published, and why. `settings` have the names of med.toml.
    """

    name: str
    method: str
    about: str
    source: str
    corrected: tuple[str, ...]
    settings: Mapping[str, Any]


@cache
def recipes() -> dict[str, Recipe]:
    """Name -> recipe."""
    found = {}
    for path in sorted((templates() / "recipes").glob("*.toml")):
        table = read_toml(path)
        said = table["recipe"] | {"corrected": tuple(table["recipe"]["corrected"])}
        found[path.stem] = Recipe(name=path.stem, settings=table["settings"], **said)
    return found


def recipe_for(name: str, method: str) -> Recipe:
    """The recipe called `name`; raises UsageError when there is none, or when it is for another method."""
    found = recipes().get(name)
    if found is None:
        raise UnknownNameError("recipe", name, recipes(), hint=f"there are {listing()}")
    if found.method != method:
        own = ", ".join(recipe.name for recipe in recipes().values() if recipe.method == method)
        raise UsageError(
            f"the recipe '{name}' is for `med train {found.method}`, not for `med train {method}`",
            hint=f"run: med train {found.method} --recipe {name} …" + (f"\nfor {method}: {own}" if own else ""),
        )
    return found


def listing() -> str:
    """All recipes by method, in one line."""
    methods = dict.fromkeys(recipe.method for recipe in recipes().values())
    return "; ".join(
        f"{', '.join(recipe.name for recipe in recipes().values() if recipe.method == method)} ({method})"
        for method in methods
    )
