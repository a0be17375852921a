"""What a figure is counted in, and which way it is better: for tables, charts and comparisons alike."""

from medcli.core.score import Score

LOWER_IS_BETTER = frozenset(
    {"perplexity", "log-loss", "brier", "ece", "aurc", "over-triage", "unsafe-advice", "repetition"}
)
_RISK = "risk-at-"
# Metrics in units of their own, or by custom not in percent, and the exam whose marks are from 1 to 5.
_IN_UNITS = frozenset(
    {"perplexity", "log-loss", "margin", "length", "length-ratio", "length-correlation", "brier", "ece", "aurc"}
)
IN_MARKS = "dialogue"
FEWEST = 5  # items of a group, below which its figure says nothing and only fills a table


def lower_is_better(metric: str) -> bool:
    """Whether the model with the lower figure is the better one."""
    return metric in LOWER_IS_BETTER or metric.startswith(_RISK)


def in_percent(kind: str, *scores: Score) -> bool:
    """Whether figures of an exam are shares, from 0 to 1, which people read in percent."""
    if kind == IN_MARKS:
        return False
    return all(score.metric not in _IN_UNITS and 0 <= score.low <= score.high <= 1 for score in scores)
