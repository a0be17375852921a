"""Find `templates/`: inside the installed package, or beside it in a checkout."""

from functools import cache
from pathlib import Path

import medcli


@cache
def templates() -> Path:
    """The folder of shipped templates."""
    package = Path(medcli.__file__).parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"
