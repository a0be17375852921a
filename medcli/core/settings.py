"""Layer settings: flags > MED_* environment > med.toml > recipe > defaults, and remember where each value came from.

This is the only place that reads the environment or `med.toml`. A settings class is a frozen dataclass; a field's
`metadata["help"]` is its `--help`. A field called `learning_rate` with `metadata["flag"] = "lr"` is set by `--lr`,
by `MED_TRAIN_LORA_LR` and by `lr = …` under `[train.lora]` or `[train]`.
"""

import os
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from medcli.core.errors import UsageError, nearest

T = TypeVar("T")
PROJECT_FILE = "med.toml"
PREFIX = "MED_"
# What may be set outside a command's settings, with its meaning.
GLOBAL_VARIABLES = {
    "MED_CACHE": "folder for med-tiny and other things that can be made again",
    "MED_DATA": "folder of built data sets",
    "MED_RUNS": "folder of runs",
    "MED_API_KEY": "key of the service that --llm names; OPENAI_API_KEY is read too",
    "MED_SERVE_KEY": "key that clients of `med serve` must show",
    "MED_LANG": "language of what med says: en or zh; else med.toml's `language`, else the locale",
}
LANGUAGE = "language"  # the one plain key of med.toml, above its tables
RECIPE = "recipe"  # in [train.METHOD]: the recipe that lies below its settings

OfOthers = Literal[
    "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "MODELSCOPE_DOMAIN", "MODELSCOPE_API_TOKEN"
]
_OF_LAUNCHERS = {
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "TORCHELASTIC_RUN_ID", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "OMP_NUM_THREADS",
    "GLOO_SOCKET_IFNAME",
}  # fmt: skip


def setting(default: Any = MISSING, *, help: str, flag: str = "", minimum: float | None = None) -> Any:
    """A dataclass field that knows its help, its flag's name when that differs, and its smallest value."""
    return field(default=default, metadata={"help": help, "flag": flag, "minimum": minimum})


def left_out(default: Any) -> Any:
    """An inherited field that means nothing here: it keeps its value, and nobody can set it."""
    return field(default=default, metadata={"left_out": True})


def settings_in(cls: type) -> list[Field[Any]]:
    """The fields of a settings class that can be set."""
    return [item for item in fields(cls) if not item.metadata.get("left_out")]


def flag_of(item: Field[Any]) -> str:
    """The name users type for a field: `learning_rate` may be `lr`."""
    return str(item.metadata.get("flag") or item.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The sources of settings, strongest first.

    `project` is the whole `med.toml`, `recipe` one table of settings, and `recipe_name` what its origin is called.
    """

    flags: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    project: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    recipe_name: str = "recipe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved(Generic[T]):
    """Settings and where each is from: "flag", a variable's name, "med.toml", the recipe's name or "default"."""

    values: T
    origins: Mapping[str, str]

    def rows(self) -> list[tuple[str, Any, str]]:
        """(flag name, value, origin) of each setting, in the order of the class."""
        items = settings_in(type(self.values))
        return [(flag_of(f), attrgetter(f.name)(self.values), self.origins[f.name]) for f in items]


def environment() -> dict[str, str]:
    """The `MED_*` variables of this process."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


def find_project_file(start: Path) -> Path | None:
    """`med.toml` in `start` or the nearest folder above it, as git finds `.git`."""
    return next((path for folder in (start, *start.parents) if (path := folder / PROJECT_FILE).is_file()), None)


def project_table() -> dict[str, Any]:
    """The `med.toml` that holds for the working folder; empty when there is none."""
    path = find_project_file(Path.cwd())
    return read_toml(path) if path else {}


def project_recipe(method: str) -> str:
    """The recipe that med.toml names for a training method, or ""."""
    train = project_table().get("train", {})
    table = train.get(method, {}) if isinstance(train, Mapping) else {}
    return str(table.get(RECIPE, "")) if isinstance(table, Mapping) else ""


def project_root() -> Path:
    """The folder of `med.toml`, or the working folder: where `data/` and `runs/` lie."""
    path = find_project_file(Path.cwd())
    return path.parent if path else Path.cwd()


def folder(name: Literal["data", "runs", "cache"]) -> Path:
    """Where built data sets, runs and remakeable files lie; `MED_DATA`, `MED_RUNS` and `MED_CACHE` move them."""
    if moved := os.environ.get(f"{PREFIX}{name.upper()}"):
        return Path(moved).expanduser()
    if name == "cache":
        home = os.environ.get("XDG_CACHE_HOME")
        return (Path(home) if home else Path.home() / ".cache") / "med"
    return project_root() / name


def language() -> str:
    """The language to speak, by `MED_LANG`, med.toml or the locale: "zh" of zh_CN.UTF-8; "" where nothing says so."""
    named = (os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return chosen_language() or _without_country(next(filter(None, named), ""))


def chosen_language() -> str:
    """The language that `MED_LANG` or med.toml asks for, or "".

    A `med.toml` that cannot be read asks for none: whoever needs its settings tells what is wrong with it.
    """
    if chosen := os.environ.get("MED_LANG", ""):
        return _without_country(chosen)
    try:
        return _without_country(str(project_table().get(LANGUAGE, "")))
    except UsageError:
        return ""


def _without_country(name: str) -> str:
    return re.split(r"[-_.@]", name)[0].lower()


def variable_of_others(name: OfOthers) -> str:
    """A variable that other programs of the field read and med honours, or ""."""
    return os.environ.get(name, "")


def variables_of_launcher() -> dict[str, str]:
    """What torchrun, accelerate or Slurm tells a process about the run it is part of."""
    return {name: value for name, value in os.environ.items() if name in _OF_LAUNCHERS or name.startswith("SLURM_")}


def pass_on(values: Mapping[str, str]) -> None:
    """Set variables that libraries read in this process, and the processes it starts."""
    os.environ.update(values)


def service_key() -> str:
    """The key for an OpenAI-compatible service; services of one's own need none, but the client wants a word."""
    return os.environ.get("MED_API_KEY") or os.environ.get("OPENAI_API_KEY") or "none"


def serving_key() -> str:
    """The key that clients of our own server must show, or ""."""
    return os.environ.get("MED_SERVE_KEY", "").strip()


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; raises UsageError with the file's name and line."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", hint="correct the line named above") from error


def resolve(cls: type[T], section: str, layers: Layers) -> Resolved[T]:
    """Build `cls` from `layers`; `section` ("train.lora") falls back to its parent ("train").

    Raises UsageError for an unknown key, a value of the wrong type or below its minimum, naming where it stands.
    """
    project = _tables(layers.project, section, cls, PROJECT_FILE)
    recipe = _checked_keys(dict(layers.recipe), cls, layers.recipe_name)
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for item in settings_in(cls):
        flag = flag_of(item)
        variable = f"{PREFIX}{section}_{flag}".replace(".", "_").replace("-", "_").upper()
        if layers.flags.get(item.name) is not None:
            value, origin, where = layers.flags[item.name], "flag", f"--{flag.replace('_', '-')}"
        elif variable in layers.environment:
            value, origin, where = layers.environment[variable], variable, variable
        elif flag in project:
            value, origin, where = project[flag], PROJECT_FILE, f"{PROJECT_FILE}: [{section}] {flag}"
        elif flag in recipe:
            value, origin, where = recipe[flag], layers.recipe_name, f"{layers.recipe_name}: {flag}"
        elif item.default is MISSING:
            raise UsageError(f"--{flag.replace('_', '-')} is missing", hint=str(item.metadata["help"]))
        else:
            origins[item.name] = "default"
            continue
        values[item.name] = _checked(convert(value, hints[item.name], where), item, where)
        origins[item.name] = origin
    return Resolved(values=cls(**values), origins=origins)


def check_environment(variables: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a `MED_*` variable that no setting has; a typing error must not pass in silence."""
    names = {*known, *GLOBAL_VARIABLES}
    for name in variables:
        if name not in names:
            close = nearest(name, names)
            hint = f"did you mean {close}?" if close else f"unset it: unset {name}"
            raise UsageError(f"the environment variable {name} is not known", hint=hint)


def check_sections(project: Mapping[str, Any], sections: Iterable[str]) -> None:
    """Refuse a table in `med.toml` that belongs to no command."""
    known = {".".join(section.split(".")[:depth]) for section in sections for depth in range(1, section.count(".") + 2)}
    for name, table in _named_tables(project, ""):
        if name not in known:
            close = nearest(name, known)
            hint = f"did you mean [{close}]?" if close else f"known: {', '.join(f'[{k}]' for k in sorted(known))}"
            raise UsageError(f"{PROJECT_FILE}: [{name}] belongs to no command", hint=hint)
        if not isinstance(table, Mapping):
            raise UsageError(f"{PROJECT_FILE}: '{name}' must be a table", hint=f"write [{name}]")


def _named_tables(table: Mapping[str, Any], path: str) -> list[tuple[str, Any]]:
    """("train", …), ("train.lora", …): every table by its dotted name; at the top, plain values too."""
    found = []
    for key, value in table.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            found += [(name, value), *_named_tables(value, name)]
        elif not path and key != LANGUAGE:
            found.append((name, value))
    return found


def variables_of(cls: type, section: str) -> list[str]:
    """The `MED_*` variables that set the fields of `cls`."""
    head = f"{PREFIX}{section}_".replace(".", "_")
    return [f"{head}{flag_of(f)}".upper() for f in settings_in(cls)]


def convert(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind` (bool, int, float, str, Path, Literal, tuple[str, ...] or one of these or None)."""
    if get_origin(kind) in (types.UnionType, Union):
        if value is None:
            return None
        kind = next(k for k in get_args(kind) if k is not types.NoneType)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            choices = [str(choice) for choice in get_args(kind)]
            close = nearest(str(value), choices)
            said = f"did you mean '{close}'? " if close else ""
            raise UsageError(f"{where}: '{value}' is not a choice", hint=f"{said}choose from {', '.join(choices)}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, str | list | tuple):
            raise UsageError(f"{where}: {value!r} is not a list", hint='write ["a", "b"]')
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(str(part).strip() for part in parts if str(part).strip())
    if kind is bool:
        return _yes_or_no(value, where)
    if kind is int and isinstance(value, float) and not value.is_integer():
        raise UsageError(f"{where}: {value!r} is not a whole number")
    if kind in (int, float) and isinstance(value, bool):
        raise UsageError(f"{where}: {value!r} is not a number")
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        if kind is int:
            raise UsageError(f"{where}: {value!r} is not a whole number") from error
        raise UsageError(
            f"{where}: {value!r} is not a number" if kind is float else f"{where}: {value!r} is not a path"
        ) from error


def _tables(table: Mapping[str, Any], section: str, cls: type, where: str) -> dict[str, Any]:
    """The keys of `[a.b]` over those of `[a]`; every plain key of `[a.b]` must be a setting."""
    known = {flag_of(f) for f in settings_in(cls)}
    merged: dict[str, Any] = {}
    parts = section.split(".")
    for depth in range(1, len(parts) + 1):
        here: Any = table
        for part in parts[:depth]:
            here = here.get(part, {}) if isinstance(here, Mapping) else {}
        if not isinstance(here, Mapping):
            raise UsageError(f"{where}: {'.'.join(parts[:depth])} must be a table")
        plain = {key: value for key, value in here.items() if not isinstance(value, Mapping)}
        if parts[:1] == ["train"] and depth == len(parts):
            plain.pop(RECIPE, None)
        if depth == len(parts):
            _checked_keys(plain, cls, f"{where}: [{section}]")
        merged |= {key: value for key, value in plain.items() if key in known}
    return merged


def _checked_keys(table: dict[str, Any], cls: type, where: str) -> dict[str, Any]:
    """The table itself, when each of its keys is a setting; raises UsageError with the nearest one."""
    known = {flag_of(f) for f in settings_in(cls)}
    for key in table:
        if key not in known:
            close = nearest(key, known)
            hint = f"did you mean '{close}'?" if close else f"known: {', '.join(sorted(known))}"
            raise UsageError(f"{where} has no setting '{key}'", hint=hint)
    return table


def _checked(value: Any, item: Field[Any], where: str) -> Any:
    minimum = item.metadata.get("minimum")
    if minimum is not None and value is not None and value < minimum:
        raise UsageError(f"{where}: {value} is too small", hint=f"the smallest value is {minimum}")
    return value


def _yes_or_no(value: Any, where: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    answer = words.get(str(value).lower())
    if answer is None:
        raise UsageError(f"{where}: {value!r} is neither yes nor no", hint="use true or false")
    return answer
