"""Cards to plan for: `templates/gpus.toml`, or so many gigabytes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from medcli.core.errors import UnknownNameError
from medcli.core.resources import templates
from medcli.core.settings import read_toml

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*G(?:i?B)?", re.IGNORECASE)
# What a program gets of a card: GDDR6 that corrects errors keeps a sixteenth (a T4 shows 15 of 16 GiB).
USABLE = 15 / 16
# Of a card's dense TFLOPS, what training reaches: 21 % GPT-3, 30 % Megatron-Turing, 33 % Gopher, 46 % PaLM (Chowdhery
# et al. 2022, table 3), 38-43 % Llama 3 (Grattafiori et al. 2024, table 4).
OF_DATA_SHEET = (0.2, 0.35, 0.5)
# Of the speed of one large matrix product, measured here.
OF_PRODUCT = (0.25, 0.5, 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card: its memory in GiB, and its dense TFLOPS by precision ("bf16", "fp16", "fp32"); empty when unknown.

    `bandwidth` is that of its memory, GB/s; 0 when unknown.
    """

    name: str
    memory: float
    tflops: Mapping[str, float]
    bandwidth: float = 0.0
    source: str = ""

    @property
    def usable(self) -> float:
        """GiB that a program gets of it."""
        return self.memory * USABLE

    @property
    def precision(self) -> str:
        """What "auto" means on it: bf16 unless the card is known to have none."""
        return "bf16" if "bf16" in self.tflops or not self.tflops else "fp32"


@cache
def cards() -> dict[str, Card]:
    """Name -> card, in the order of the file."""
    found = {}
    for name, row in read_toml(templates() / "gpus.toml").items():
        tflops = {precision: float(row[precision]) for precision in ("bf16", "fp16", "fp32") if precision in row}
        found[name] = Card(
            name=name,
            memory=float(row["memory"]),
            tflops=tflops,
            bandwidth=float(row["bandwidth"]),
            source=row["source"],
        )
    return found


def card_of(wanted: str) -> Card:
    """The card of that name, or one of that many gigabytes ("24GB"); raises UnknownNameError with the nearest name."""
    if size := _SIZE.fullmatch(wanted.strip()):
        return Card(name=f"a GPU of {float(size[1]):g} GB", memory=float(size[1]), tflops={})
    spelt = {_plain(name): card for name, card in cards().items()}
    if card := spelt.get(_plain(wanted)):
        return card
    raise UnknownNameError("GPU", wanted, cards(), hint=f"known: {', '.join(cards())}; or a size such as 24GB")


def _plain(name: str) -> str:
    return re.sub(r"nvidia|geforce|tesla|gb|[^a-z0-9]", "", name.lower())
