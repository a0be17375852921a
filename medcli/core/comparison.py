"""What a comparison of two models finds: by exam, by category, and answer by answer."""

from dataclasses import dataclass

from medcli.core.exam import Item, Marked
from medcli.core.exam_file import Examination
from medcli.core.paired import LEVEL, Difference, Preferred
from medcli.core.score import Score
from medcli.core.units import lower_is_better

EXACT = "exact McNemar test"
SIGN_FLIP = "sign-flip test"
_SAME = 1e-9  # marks that differ by less are the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A metric of both models, and how much more the other has.

    `share`: the figures are from 0 to 1 and shown in percent. `paired`: over the same items; otherwise the interval is
    made of the two figures' own ones, and is rather too wide.
    """

    metric: str
    one: Score
    other: Score
    difference: Difference
    share: bool
    paired: bool = True

    @property
    def towards(self) -> int:
        """1 where more is better, -1 where less is."""
        return -1 if lower_is_better(self.metric) else 1

    @property
    def gain(self) -> Difference:
        """How much better the other model is: above 0 it is the better one, whatever the metric."""
        if self.towards > 0:
            return self.difference
        found = self.difference
        return Difference(value=-found.value, low=-found.high, high=-found.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """The primary metric in a group of items. `shown`: it differs by more than chance, all groups considered."""

    names: tuple[str, ...]
    contrast: Contrast
    p: float
    adjusted: float

    @property
    def shown(self) -> bool:
        """Whether a difference is shown after Holm's correction over the groups."""
        return self.adjusted < LEVEL and not self.contrast.difference.holds_zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both answers to an item; `gain` is how much better the other model's is."""

    item: Item
    one: Marked
    other: Marked
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What an exam says of the two models.

    `left_out` items have the primary metric in one of the two only. `general`: it asks what a medical model may have
    forgotten. `narrow` are the groups of two names, `wide` those of one.
    """

    one: Examination
    other: Examination
    general: bool
    primary: Contrast
    test: str
    p: float
    left_out: int
    further: tuple[Contrast, ...]
    wide: tuple[Category, ...]
    narrow: tuple[Category, ...]
    pairs: tuple[Pair, ...]
    preferred: Preferred | None

    @property
    def exam(self) -> str:
        """The exam's name."""
        return self.one.exam

    @property
    def binary(self) -> bool:
        """Whether every answer is right or wrong."""
        return self.test == EXACT

    @property
    def losses(self) -> list[Pair]:
        """Where the other model is worse, the largest differences first."""
        return sorted((pair for pair in self.pairs if pair.gain < -_SAME), key=lambda pair: pair.gain)

    @property
    def wins(self) -> list[Pair]:
        """Where the other model is better, the largest differences first."""
        return sorted((pair for pair in self.pairs if pair.gain > _SAME), key=lambda pair: -pair.gain)

    @property
    def ties(self) -> int:
        """How many items both answer equally well."""
        return len(self.pairs) - len(self.losses) - len(self.wins)

    @property
    def shown(self) -> bool:
        """Whether test and interval both tell the two models apart."""
        return self.p < LEVEL and not self.primary.difference.holds_zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models by name, and what each exam says of them."""

    one: str
    other: str
    seed: int
    exams: tuple[Compared, ...]
