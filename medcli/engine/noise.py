"""NEFTune (Jain et al. 2023): uniform noise on the embeddings while training, of norm alpha for each document.

transformers' own hook scales by the length of the row. A padding-free row holds many documents, and its noise would be
too small; here each document's own length counts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from medcli.core.train_settings import TrainSettings
from medcli.engine.pack import Example


@contextmanager
def noise_on_embeddings(model: Any, settings: TrainSettings) -> Iterator[Callable[[Sequence[Example], bool], None]]:
    """Within the block the embeddings of `model` carry noise; the function given is to be told each batch."""
    scales = torch.zeros(0)

    def tell(examples: Sequence[Example], training: bool) -> None:
        nonlocal scales
        lengths = [len(example.ids) for example in examples]
        width = model.get_input_embeddings().embedding_dim
        each = torch.tensor([settings.neftune / (length * width) ** 0.5 if training else 0.0 for length in lengths])
        scales = torch.repeat_interleave(each, torch.tensor(lengths)) if settings.packing else each

    def hook(module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
        if not module.training:
            return embedded
        scale = torch.zeros(embedded.shape[:2])
        if settings.packing:
            scale[0, : len(scales)] = scales
        else:
            scale[:] = scales[:, None]
        noise = torch.empty_like(embedded).uniform_(-1, 1)
        return embedded + noise * scale[..., None].to(embedded)

    handle = model.get_input_embeddings().register_forward_hook(hook)
    try:
        yield tell
    finally:
        handle.remove()
