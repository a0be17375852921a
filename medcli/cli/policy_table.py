"""The table of a policy's training, a row a step: reward, divergence, entropy and what else goes wrong first."""

from collections.abc import Mapping

# Key in metrics.jsonl -> title and how a value is printed, in order.
_COLUMNS = {
    "reward": ("reward", "{:.3f}"),
    "kl": ("KL", "{:.3f}"),
    "entropy": ("entropy", "{:.3f}"),
    "clip_fraction": ("clipped", "{:.1%}"),
    "value_loss": ("value loss", "{:.4f}"),
    "response_length": ("length", "{:.1f}"),
    "ended": ("ended", "{:.0%}"),
    "eval_reward": ("held out", "{:.3f}"),
    "tokens_per_second": ("tok/s", "{:,.0f}"),
}
_WIDTH = 11
_HEAD_EVERY = 20  # rows


class PolicyTable:
    """Turns figures into lines; the head stands above the first row and again after many."""

    def __init__(self) -> None:
        self._rows = 0

    def lines(self, step: int, values: Mapping[str, float]) -> list[str]:
        """The lines to print for a step; none when the figures are not a policy's."""
        if "reward" not in values or "response_length" not in values:  # a reward model has rewards too
            return []
        head = ["step", *(title for title, _ in _COLUMNS.values())]
        row = [str(step), *(form.format(values[key]) if key in values else "" for key, (_, form) in _COLUMNS.items())]
        self._rows += 1
        shown = [head, row] if self._rows % _HEAD_EVERY == 1 else [row]
        return ["".join(f"{cell:>{_WIDTH}}" for cell in line) for line in shown]
