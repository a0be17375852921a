"""What a licence's name says about commercial use, and what a model folder says its licence is."""

import re
from pathlib import Path
from typing import Literal

Use = Literal["yes", "no", "unknown"]
_ALLOWING = re.compile(
    r"(apache|mit|bsd|isc|cc0|cc-by|cc-by-sa|gpl|lgpl|agpl|mpl|odc-by|pddl|unlicense|openrail)(-?\d+(\.\d+)?)?(-clause)?"
)
_FORBIDDING = re.compile(r"\bnc\b|non-?commercial|research|academic")
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^(license|license_name):[ \t]*['\"]?([^'\"\n#]+?)['\"]?[ \t]*$", re.MULTILINE)


def commercial_use(licence: str) -> Use:
    """Whether a licence of that name allows commercial use: "unknown" for all that is not one of the common ones."""
    name = licence.strip().lower().replace(" ", "-")
    if _FORBIDDING.search(name.replace("-", " ")) or "non-commercial" in name:
        return "no"
    return "yes" if _ALLOWING.fullmatch(name) else "unknown"


def licence_of(folder: Path) -> str:
    """The licence that the README.md of a model's folder names in its front matter; "unknown" when it names none."""
    card = folder / "README.md"
    found = _FRONT_MATTER.match(card.read_text("utf-8", "replace")) if card.is_file() else None
    fields = dict(_FIELD.findall(found[1])) if found else {}
    own = fields.get("license_name", "") if fields.get("license") == "other" else ""
    return own or fields.get("license", "unknown")
