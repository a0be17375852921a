"""Is what `med.toml` and the `MED_*` variables say understood? Every fault is told, not only the first."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING
from functools import partial
from pathlib import Path
from typing import Any

from medcli.core.catalogue import languages
from medcli.core.errors import UnknownNameError, UsageError, nearest
from medcli.core.finding import Finding
from medcli.core.recipes import recipe_for
from medcli.core.settings import (
    GLOBAL_VARIABLES,
    LANGUAGE,
    PROJECT_FILE,
    RECIPE,
    Layers,
    check_environment,
    check_sections,
    environment,
    find_project_file,
    flag_of,
    read_toml,
    resolve,
    settings_in,
    variables_of,
)

Sections = Mapping[str, type]
_ANYTHING = "x"  # stands for a setting that must be given, while another one is looked at


def project_findings(sections: Sections) -> Iterator[Finding]:
    """The faults of the `med.toml` that holds here; `sections` are all its tables with the settings they hold."""
    path = find_project_file(Path.cwd())
    if path is None:
        yield Finding(check="med.toml", state="ok", message="there is none here: every setting has its default")
        return
    try:
        table = read_toml(path)
    except UsageError as error:
        yield Finding(check="med.toml", state="error", message=error.message, hint=error.hint)
        return
    faults = list(_faults_of(table, sections))
    if not faults:
        yield Finding(check="med.toml", state="ok", message=f"{path} is understood")
    for fault in faults:
        yield Finding(check="med.toml", state="error", message=fault.message, hint=fault.hint)


def variable_findings(sections: Sections) -> Iterator[Finding]:
    """The faults of the `MED_*` variables of this process."""
    given = environment()
    faults = list(_faults_of_variables(given, sections))
    if not faults:
        names = ", ".join(sorted(given)) or "none"
        yield Finding(check="variables", state="ok", message=f"set and understood: {names}")
    for fault in faults:
        yield Finding(check="variables", state="error", message=fault.message, hint=fault.hint)


def _faults_of(table: Mapping[str, Any], sections: Sections) -> Iterator[UsageError]:
    chosen = table.get(LANGUAGE)
    if chosen is not None and chosen not in languages():
        yield UnknownNameError("language", str(chosen), languages())
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _faults_of_table(key, value, sections)
        elif key != LANGUAGE:
            yield from _raised(partial(check_sections, {key: value}, sections))


def _faults_of_table(name: str, table: Mapping[str, Any], sections: Sections) -> Iterator[UsageError]:
    """The faults of `[name]` and the tables in it; of one that nobody knows nothing more is told."""
    unknown = list(_raised(partial(check_sections, _nested(name, {}), sections)))
    if unknown:
        yield from unknown
        return
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _faults_of_table(f"{name}.{key}", value, sections)
        else:
            yield from _faults_of_key(name, key, value, sections)


def _faults_of_key(name: str, key: str, value: Any, sections: Sections) -> Iterator[UsageError]:
    """A table holds for itself and for all below it: `[train]` for every method that has the setting."""
    if key == RECIPE and name.startswith("train."):
        yield from _raised(partial(recipe_for, str(value), name.removeprefix("train.")))
        return
    below = [cls for section, cls in sections.items() if f"{section}.".startswith(f"{name}.")]
    known = {flag_of(item): cls for cls in below for item in settings_in(cls)}
    if key not in known:
        close = nearest(key, known)
        hint = f"did you mean '{close}'?" if close else f"known: {', '.join(sorted(known))}"
        yield UsageError(f"{PROJECT_FILE}: [{name}] has no setting '{key}'", hint=hint)
        return
    layers = Layers(project=_nested(name, {key: value}), flags=_others(known[key], key))
    yield from _raised(partial(resolve, known[key], name, layers))


def _faults_of_variables(given: Mapping[str, str], sections: Sections) -> Iterator[UsageError]:
    if (chosen := given.get("MED_LANG", "")) and chosen.replace("-", "_").partition("_")[0].lower() not in languages():
        yield UnknownNameError("language", chosen, languages())
    owners = {name: (section, cls) for section, cls in sections.items() for name in variables_of(cls, section)}
    for name, value in given.items():
        if name in GLOBAL_VARIABLES:
            continue
        yield from _raised(partial(check_environment, [name], owners))
        if name in owners:
            section, cls = owners[name]
            flag = name.removeprefix(f"MED_{section}_".replace(".", "_").upper()).lower()
            layers = Layers(environment={name: value}, flags=_others(cls, flag))
            yield from _raised(partial(resolve, cls, section, layers))


def _others(cls: type, key: str) -> dict[str, Any]:
    """Something for every setting that must be given, but for `key`, which is looked at."""
    return {item.name: _ANYTHING for item in settings_in(cls) if item.default is MISSING and flag_of(item) != key}


def _nested(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """`table` as `[a.b]` of a med.toml."""
    nested = dict(table)
    for part in reversed(name.split(".")):
        nested = {part: nested}
    return nested


def _raised(check: Callable[[], object]) -> Iterator[UsageError]:
    """What `check` says is wrong."""
    try:
        check()
    except UsageError as error:
        yield error
