"""Before a run: does the fast path compute what the model itself computes?"""

from collections.abc import Sequence
from typing import Any

import torch

from medcli.core.errors import ModelError
from medcli.engine import attention
from medcli.engine.loaded import Loaded
from medcli.engine.loss import head_in_loss
from medcli.engine.pack import IGNORED, Batch, Example, on_device, padded, side_by_side

TOLERANCE = 1e-3  # relative, for float32; half precision rounds more


@torch.no_grad()
def check(loaded: Loaded, examples: Sequence[Example]) -> None:
    """Compare the loss of a padding-free row with the model's own on the same documents, each alone.

    Raises ModelError when they differ or the row cannot be computed: state that leaks from document to document (linear
    attention), logits that are bent after the head, a decoder that ignores `position_ids`, attention of its own.
    """
    model = loaded.causal_lm
    fast = _of_row(model, on_device(side_by_side(examples), loaded.device))
    with attention.own(model):
        alone = [on_device(padded([example], 0), loaded.device) for example in examples]
        counts = [int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in alone]
        losses = [model(**batch, use_cache=False).loss * count for batch, count in zip(alone, counts, strict=True)]
        plain = torch.stack(losses).sum() / sum(counts)
    exact = all(weight.dtype == torch.float32 for weight in model.parameters())  # none halved or quantised
    tolerance = TOLERANCE if exact else 50 * TOLERANCE
    if not torch.isclose(fast.float(), plain.float(), rtol=tolerance, atol=tolerance):
        raise ModelError(
            f"rows without padding change this model's loss ({float(fast):.4f} instead of {float(plain):.4f})",
            hint="train it with --no-packing",
        )


def _of_row(model: Any, row: Batch) -> torch.Tensor:
    try:
        with head_in_loss(model):
            loss: torch.Tensor = model(**row).loss
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            f"rows without padding do not fit {type(model).__name__}: {first}", hint="train it with --no-packing"
        ) from error
    return loss
