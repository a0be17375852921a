"""How a raw source becomes a data set: what `med data build` and its gates are told."""

from dataclasses import dataclass
from typing import Literal

from medcli.core.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """The settings of `med data build`; every gate gets all of them and uses its own."""

    name: str = setting("", help="Name of the built data set; as it is called, or the file's name, when not given.")
    importer: str = setting("", help="Importer to read with, instead of the one that fits best.")
    hub: Literal["auto", "huggingface", "url", "modelscope"] = setting(
        "auto", help="Where to download from; auto takes the first that can be reached."
    )
    valid: float = setting(0.05, help="Share of questions for validation, where the source does not say.", minimum=0)
    test: float = setting(0.05, help="Share of questions for testing, where the source does not say.", minimum=0)
    limit: int | None = setting(
        None, help="Stop after so many records (of each split, where the source decides it).", minimum=1
    )
    seed: int = setting(42, help="Seed of the split.")
    verify: bool = setting(True, help="Check the SHA-1 that dataset_info.json gives.")
    simplify: bool = setting(False, help="Turn traditional Chinese characters into simplified ones.")
    phi: Literal["mask", "drop", "report", "off"] = setting(
        "mask", help="What to do with patient identifiers: mask them, drop the row, count them only, or nothing."
    )
    min_chars: int = setting(1, help="Refuse answers and documents shorter than this, in characters.", minimum=1)
    max_chars: int = setting(20_000, help="Refuse records longer than this, in characters.", minimum=1)
    repetition: float = setting(
        0.6, help="Refuse a text that repeats itself: share of its 10-grams seen before (1 = off).", minimum=0
    )
    advertising: bool = setting(True, help="Refuse answers that advertise, or send the patient to a private contact.")
    without: tuple[str, ...] = setting(
        (), help="Refuse what these hold out: exams, valid and test of built sets, raw files."
    )
    near: float = setting(
        0.9,
        help="Refuse near-duplicates: similarity of character 5-grams from which on two are one (1 = off).",
        minimum=0.5,
    )
