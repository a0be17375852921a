"""Samples encoded once a machine: its first process writes them, all read them from there by memory map."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from medcli.core import meeting as meetings
from medcli.core import world as worlds
from medcli.core.atomic import folder_aside

if TYPE_CHECKING:
    from medcli.engine.encode import Losses
    from medcli.engine.pack import Samples

_LOADED = "loaded"


def wait_for_first() -> None:
    """Return when this machine's first process has the data built and the model at hand; at once in that process."""
    world = worlds.current()
    if world.size > 1 and not world.is_first_here:
        meetings.of(world).wait_for(_LOADED)


def tell_loaded() -> None:
    """Let the other processes of this machine go on from `wait_for_first`."""
    world = worlds.current()
    if world.size > 1 and world.is_first_here:
        meetings.of(world).leave(_LOADED)


def remove() -> None:
    """Remove what this launch has encoded; who has it mapped keeps it."""
    for folder in meetings.of(worlds.current()).path.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def shared(split: str, size: int, encode: Callable[[], tuple["Samples", "Losses"]]) -> tuple["Samples", "Losses"]:
    """What `encode` gives, called in one process of each machine only; blocks are of `size` tokens.

    The others wait for a folder to appear, by no collective and hence without a limit of time. Raises PeerLost when
    the first process ends before.
    """
    from medcli.engine.encode import Losses
    from medcli.engine.pack import Blocks, Examples, Pairs

    world = worlds.current()
    if world.local_size == 1:
        return encode()
    meeting = meetings.of(world)
    if world.is_first_here:
        samples, losses = encode()
        with folder_aside(meeting.path / split) as aside:
            samples.examples.save(aside)
            told = {"losses": asdict(losses), "kind": type(samples).__name__}
            (aside / "told.json").write_text(json.dumps(told), "utf-8")
    home = meeting.wait_for(split)
    told = json.loads((home / "told.json").read_text("utf-8"))
    examples = Examples.open(home)
    kinds: dict[str, Samples] = {
        "Examples": examples,
        "Blocks": Blocks(examples, size),
        "Pairs": Pairs(examples),
    }
    return kinds[told["kind"]], Losses(**told["losses"])
