"""Is what med keeps to be quick whole? All of it can be made again."""

from collections.abc import Iterator

from medcli.core.errors import DataError
from medcli.core.finding import Finding
from medcli.core.hub_folder import hub_folder
from medcli.core.leftovers import leftovers_in
from medcli.core.model_ref import TINY
from medcli.core.settings import folder
from medcli.core.tensor_file import damaged_in
from medcli.steps.fetch_data import read_record


def cache_findings() -> Iterator[Finding]:
    """What is wrong in the cache; one finding when nothing is."""
    faults = [*_models(), *_downloads(), *_left_over(), *_of_hub()]
    if not faults:
        yield Finding(check="cache", state="ok", message=f"nothing is damaged in {folder('cache')}")
    yield from faults


def _models() -> Iterator[Finding]:
    for config in sorted(folder("cache").glob(f"{TINY}-*/config.json")):
        missing = [name for name in ("model.safetensors", "tokenizer.json") if not (config.parent / name).is_file()]
        damaged = damaged_in(config.parent)
        if missing or damaged:
            yield Finding(
                check="cache",
                state="error",
                message=f"med-tiny is damaged in {config.parent}",
                hint="remove it, and it is made anew when it is needed: med clean med-tiny",
            )


def _downloads() -> Iterator[Finding]:
    for place in sorted((folder("cache") / "downloads").glob("*/")):
        try:
            read_record(place)
        except DataError as error:
            yield Finding(check="cache", state="error", message=error.message, hint=error.hint)
        parts = [path for path in place.rglob("*.part") if path.is_file()]
        if parts:
            yield Finding(
                check="cache",
                state="warning",
                message=f"the download of {place.name} has not ended: {parts[0].name} is a part of a file",
                hint=f"go on with it: med data build {place.name}\nor remove it: med clean downloads",
            )


def _left_over() -> Iterator[Finding]:
    if left := list(leftovers_in(folder("cache"))):
        yield Finding(
            check="cache",
            state="warning",
            message=f"a process that was killed has left {left[0]}",
            hint="remove it: med clean leftovers",
        )


def _of_hub() -> Iterator[Finding]:
    parts = [path for path in hub_folder().glob("*/blobs/*.incomplete") if path.is_file()]
    if parts:
        yield Finding(
            check="cache",
            state="warning",
            message=f"{len(parts)} downloads from Hugging Face have not ended, such as {parts[0]}",
            hint="the command that began them goes on with them; med does not remove what is in that folder",
        )
