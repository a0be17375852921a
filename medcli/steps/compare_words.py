"""How a comparison is put into words and figures, in the terminal and on the page alike."""

from medcli.core.comparison import Category, Compared, Comparison, Contrast
from medcli.core.exam import Marked
from medcli.core.exam_file import Examination
from medcli.core.paired import LEVEL, Difference, Preferred
from medcli.core.score import Score

RULED_OUT = 0.05  # of a share: what is surely lost by less is said to be kept
_FEW = 20  # items below which a bootstrap's interval is too narrow to rule anything out
_LONGEST_LABEL = 16
_MINUS = "−"


def labels(found: Comparison) -> tuple[str, str]:
    """What to call the two in tables: the last part of their names, or A and B where that is long or the same."""
    one, other = (name.rstrip("/").rpartition("/")[2] for name in (found.one, found.other))
    if one == other or max(len(one), len(other)) > _LONGEST_LABEL:
        return "A", "B"
    return one, other


def figure(value: float, share: bool) -> str:
    """62.0 of a share; 12.35 or 0.421 of anything else."""
    if share:
        return f"{100 * value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def signed(value: float, share: bool) -> str:
    """+7.0, −6.0 or 0.0."""
    text = figure(abs(value), share)
    return text if not float(text) else f"{'+' if value > 0 else _MINUS}{text}"


def score_interval(score: Score, share: bool) -> str:
    """55.1 – 68.4."""
    return f"{figure(score.low, share)} – {figure(score.high, share)}"


def difference_interval(found: Difference, share: bool) -> str:
    """−11.2 – −0.9."""
    return f"{signed(found.low, share)} – {signed(found.high, share)}"


def probability(p: float) -> str:
    """0.23, 0.004 or < 0.001."""
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def metric_name(found: Contrast) -> str:
    """The metric, with an arrow down where less is better."""
    return found.metric if found.towards > 0 else f"{found.metric} ↓"


def category_name(found: Category) -> str:
    """Its names from the widest to the narrowest."""
    return " / ".join(found.names)


def verdict(found: Compared) -> str:
    """What the exam says of the other model, as far as chance allows."""
    if not found.shown:
        return "not shown to differ"
    return "better" if found.primary.gain.value > 0 else "worse"


def forgetting(found: Compared) -> str:
    """What a general exam says of what the other model has kept; no more than the interval allows."""
    gain, share = found.primary.gain, found.primary.share
    if found.shown:
        return "forgotten" if gain.value < 0 else "kept, and better"
    lost = max(0.0, -gain.low)
    count = len(found.pairs)
    if share and lost < RULED_OUT and count >= _FEW:
        return f"kept: a loss of more than {100 * RULED_OUT:.0f} points is ruled out"
    points = " points" if share else ""
    few = " (few items)" if count < _FEW else ""
    return f"not shown to be lost, but {count:,} items{few} cannot rule out a loss of {figure(lost, share)}{points}"


def general_line(found: Compared) -> str:
    """The forgetting row: both figures, the difference with its interval, p, and what follows."""
    primary = found.primary
    share = primary.share
    unit = " %" if share else ""
    return (
        f"{found.exam}, {metric_name(primary)}: {figure(primary.one.value, share)}{unit} → "
        f"{figure(primary.other.value, share)}{unit}, {signed(primary.difference.value, share)} "
        f"({difference_interval(primary.difference, share)}), p {probability(found.p)}: {forgetting(found)}"
    )


def sentence(found: Compared, one: str, other: str) -> str:
    """One exam in a sentence."""
    primary = found.primary
    share, gap = primary.share, primary.difference
    unit, points = (" %", " points") if share else ("", "")
    if float(size := figure(abs(gap.value), share)):
        apart = f"{size}{points} {'more' if gap.value > 0 else 'less'}"
    else:
        apart = "as much"
    less = "; less is better" if primary.towards < 0 else ""
    follows = {
        "better": f"{other} is better, by more than chance explains",
        "worse": f"{other} is worse, by more than chance explains",
    }
    return (
        f"{other} has {primary.metric} {figure(primary.other.value, share)}{unit}, {one} "
        f"{figure(primary.one.value, share)}{unit}: {apart} (95 % interval {difference_interval(gap, share)}, "
        f"p {probability(found.p)}{less}). {follows.get(verdict(found), 'Chance alone could make this difference')}."
    )


def summary(found: Comparison) -> str:
    """The whole comparison in a sentence or two."""
    _, other = labels(found)
    medical = [exam for exam in found.exams if not exam.general]
    counts = {
        word: sum(verdict(exam) == word for exam in medical) for word in ("better", "worse", "not shown to differ")
    }
    said = []
    if len(medical) == 1:
        said.append(f"On {medical[0].exam}, {sentence(medical[0], *labels(found))}")
    elif medical:
        parts = ", ".join(f"{word} in {count}" for word, count in counts.items() if count)
        said.append(f"Of {len(medical)} exams, {other} is {parts}.")
    said += [f"General ability, {exam.exam}: {forgetting(exam)}." for exam in found.exams if exam.general]
    return " ".join(said)


def preference(found: Preferred, one: str, other: str) -> str:
    """What a judge preferred who saw both answers."""
    return (
        f"A judge who saw both answers preferred {other} in {found.wins:,} cases, {one} in {found.losses:,} and "
        f"neither in {found.ties:,} (p {probability(found.p)}); when the answers changed places, it kept to "
        f"{100 * found.consistency:.0f} % of its choices."
    )


def left_out(found: Compared) -> str:
    """How many items could not be paired; "" when all could."""
    if not found.left_out:
        return ""
    return f"items left out, without {found.primary.metric} in one of the two: {found.left_out:,}"


def leak_note(found: Examination) -> str:
    """What of the exam the model was trained on; "" when nothing was found."""
    leak = found.leak
    if leak.get("exact"):
        return str(leak["exact"])
    if leak.get("leaked"):
        return f"{found.model} was trained on {leak['leaked']:,} of the {len(found.marked):,} questions"
    return ""


def leak_doubts(found: Examination) -> list[str]:
    """Why it is not fully known whether the model was trained on the exam."""
    return [f"{found.model} may have been trained on exams: {reason}" for reason in found.leak.get("unknown", ())]


def leaked(found: Examination, id: str) -> bool:
    """Whether the model was trained on this item."""
    return id in found.leak.get("items", ())


def marks(mark: Marked, found: Examination, exam: Compared) -> str:
    """How one of the two answers of a pair was marked: by the primary metric first, then by the others."""
    primary = exam.primary
    value = mark.values[primary.metric]
    if exam.binary:
        said = ["right" if (value == 1) == (primary.towards > 0) else "wrong"]
    else:
        said = [f"{primary.metric} {figure(value, primary.share)}"]
    shares = {contrast.metric: contrast.share for contrast in exam.further}
    said += [f"{name} {figure(mark.values[name], share)}" for name, share in shares.items() if name in mark.values]
    said += [mark.outcome] if mark.outcome != "answered" else []
    return ", ".join([*said, "trained on this question"] if leaked(found, mark.item.id) else said)


def outcomes(found: Compared) -> list[tuple[str, tuple[int, float], tuple[int, float]]]:
    """(outcome, both models' count and share) of answers that could not be marked, as far as there are any."""
    one, other = found.one.outcomes, found.other.outcomes
    total = len(found.one.marked)
    return [
        (name, (one[name], one[name] / total), (other[name], other[name] / total))
        for name in one
        if name != "answered" and (one[name] or other[name])
    ]


def method(found: Comparison) -> str:
    """How the figures were made."""
    tests = sorted({exam.test for exam in found.exams})
    return (
        "Differences are over the same items, with 95 % intervals, and p is two-sided, of the "
        f"{' or the '.join(tests)}. A difference is said to be shown when p is below {LEVEL:.2g} and the interval "
        "leaves out 0; * marks categories of which this holds after Holm's correction over all of them. ↓: less is "
        "better."
    )
