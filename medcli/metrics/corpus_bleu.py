"""BLEU of all answers together, as machine translation reports it, by sacrebleu."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medcli.core.score import Answer, Score, resampled

if TYPE_CHECKING:
    import numpy
    import numpy.typing as npt

HELP = "sacrebleu's corpus BLEU (tokenize zh): matches are summed over all answers before precisions are taken"
ORDER = 4


def scores(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """None: it is of all answers only. Of one there is BLEU-4."""
    return {}


def figures(answers: Sequence[Answer], seed: int) -> list[Score]:
    """corpus-bleu from 0 to 1: sacrebleu's `corpus_bleu(…, tokenize="zh")` over 100, its interval over answers."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize="zh")
    counts = []
    for answer in answers:
        found = metric.corpus_score([answer.text], [[answer.reference]])
        counts.append([found.sys_len, found.ref_len, *found.counts, *found.totals])
    return [resampled("corpus-bleu", counts, bleu_of, seed)] if counts else []


def bleu_of(counts: "npt.NDArray[numpy.float64]") -> "npt.NDArray[numpy.float64]":
    """BLEU from summed counts (…, 10): the texts' and the references' words, then matched and all n-grams by order."""
    import numpy
    from sacrebleu.metrics import BLEU

    values = [
        BLEU.compute_bleu(
            correct=list(row[2 : 2 + ORDER]),
            total=list(row[2 + ORDER :]),
            sys_len=int(row[0]),
            ref_len=int(row[1]),
            smooth_method="exp",  # sacrebleu's default
        ).score
        for row in counts.reshape(-1, 2 + 2 * ORDER)
    ]
    # Of a perfect corpus rounding makes 100.00000000000004.
    return numpy.minimum(numpy.array(values) / 100, 1).reshape(counts.shape[:-1])
