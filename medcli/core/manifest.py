"""`manifest.toml`, written last: its existence means that a folder was built to its end."""

import tomllib
from pathlib import Path
from typing import Any

from medcli.core.errors import DataError

MANIFEST = "manifest.toml"


def read_manifest(folder: Path, what: str, build: str) -> dict[str, Any]:
    """The parsed manifest of a finished folder; raises DataError, naming the command to `build` it, for any other."""
    path = folder / MANIFEST
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no finished {what}", hint=f"build it: {build}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}", hint=f"build it again: {build}") from error
