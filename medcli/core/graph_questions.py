"""Questions about the attributes of a knowledge graph, and their answers, in the wordings of `forms.toml`."""

import hashlib
import random
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from medcli.core.graph import Entity
from medcli.core.resources import templates

MOST = 20  # values that an answer lists
_WHOLE = 1 << 64


@cache
def forms() -> dict[str, Any]:
    """How everything is asked and answered: the parsed `templates/knowledge/forms.toml`."""
    return tomllib.loads((templates() / "knowledge" / "forms.toml").read_text("utf-8"))


def attribute_name(attribute: str) -> str:
    """What people call an attribute."""
    return str(_wording(attribute)["name"] or attribute)


def split_of(shares: Mapping[str, float], *what: object) -> str:
    """The split that a question falls into by the hash of what it is about: the same in every build."""
    digest = hashlib.sha256("\0".join(map(str, what)).encode("utf-8", "replace")).digest()
    point = int.from_bytes(digest[:8], "big") / _WHOLE
    for split, share in shares.items():
        if point < share:
            return split
        point -= share
    return "train"


def wordings(table: Mapping[str, Any], split: str) -> Sequence[str]:
    """The wordings to train on, or for the other splits those that are never trained on."""
    chosen: Sequence[str] = table["questions" if split == "train" else "held_out"]
    return chosen


def ask(entity: Entity, attribute: str, split: str, chance: random.Random) -> str:
    """A question for an attribute in one of the wordings of a split."""
    wording = chance.choice(wordings(_wording(attribute), split))
    opening = chance.choice(forms()["openings"])
    return str(opening + wording.format(d=entity.name, a=attribute_name(attribute)))


def answer(entity: Entity, attribute: str) -> str:
    """What the graph says of an attribute."""
    said = _wording(attribute)["answer"].format(
        d=entity.name, a=attribute_name(attribute), values=listed(entity.values(attribute))
    )
    return str(said)


def refusal(entity: Entity, attribute: str) -> str:
    """What is said when the graph has no such fact."""
    return str(forms()["refusal"]["answer"].format(d=entity.name, a=attribute_name(attribute)))


def listed(values: Sequence[str]) -> str:
    """The values as a list in running text, at most MOST of them."""
    return "、".join(values[:MOST]) + ("等" if len(values) > MOST else "")


def _wording(attribute: str) -> dict[str, Any]:
    table: dict[str, Any] = forms()["attribute"]
    found: dict[str, Any] = table.get(attribute, table["other"])
    return found
