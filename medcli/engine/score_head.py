"""A language model made into a sequence classifier of one number, read where a text ends.

transformers' own pooling takes the last token that is not padding: in a row of several documents that is one number for
all of them, and where padding is the end token, as often, it is the token before the end.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)

from medcli.core.errors import ModelError
from medcli.engine import attention
from medcli.engine.agreement import TOLERANCE
from medcli.engine.pack import Batch, Example, on_device, padded, side_by_side

HEAD = "score"  # what transformers calls it in every classifier made of a decoder
ENDS = "ends"  # in a batch, where its documents end, [documents], in the flattened batch
_OF_LABELS = ("labels", "shift_labels", "logits_to_keep")
_TRIED = (7, 19, 12)  # tokens of the documents on which rows without padding are tried


class Score(nn.Linear):
    """The head. It computes in float32 whatever surrounds it: in half precision close answers would be equal."""

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden.float(), self.weight.float())


def classifier_of(model: Any, pad: int, seed: int) -> Any:
    """The sequence classifier of the language model's own architecture, which takes its layers over, and a new head.

    The head is drawn with a standard deviation of 1 / sqrt(width + 1) (Stiennon et al. 2020), which makes first rewards
    of about one; `pad` is the padding's id, for a model that has none. The language model is used up.

    Raises ModelError when the architecture cannot be made one.
    """
    config = model.config
    kind = kind_of(type(config))
    if kind is None:
        raise _no_classifier(type(model).__name__)
    config.num_labels, config.problem_type = 1, "regression"
    with torch.device("meta"):
        classifier = kind._from_config(config)
    body = model.get_submodule(model.base_model_prefix)
    if type(classifier.get_submodule(kind.base_model_prefix)) is not type(body):
        raise _no_classifier(type(model).__name__)
    classifier.set_submodule(kind.base_model_prefix, body)
    for name, value in vars(model).items():  # what loading has noted, such as how the weights are quantised
        vars(classifier).setdefault(name, value)
    made_ready(classifier, pad)
    _draw(classifier, next(body.parameters()).device, seed)
    if not _reads(classifier.eval()):
        raise _no_classifier(type(model).__name__)
    return classifier


def kind_of(config: type) -> Any:
    """The sequence classifier of an architecture: transformers' own, or for half of them one put together likewise.

    None when it is no language model that transformers knows.
    """
    own = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(config, None)
    speaking = MODEL_FOR_CAUSAL_LM_MAPPING.get(config, None)
    if own is not None or speaking is None:
        return own
    parent = next(kind for kind in speaking.__mro__[1:] if issubclass(kind, PreTrainedModel))
    name = f"{speaking.__name__.partition('For')[0]}ForSequenceClassification"
    # transformers looks in a class's module for what else its architecture can do.
    parts = {"__module__": parent.__module__, "base_model_prefix": speaking.base_model_prefix}
    return type(name, (GenericForSequenceClassification, parent), parts)


def _reads(classifier: Any) -> bool:
    """Whether the classifier can be called as those of transformers are; one without weights is believed."""
    if classifier.device.type == "meta":
        return True
    try:
        with torch.no_grad(), attention.own(classifier):
            classifier(input_ids=torch.zeros(1, 2, dtype=torch.long, device=classifier.device), use_cache=False)
    except (TypeError, AttributeError):
        return False
    return True


def made_ready(classifier: Any, pad: int) -> Any:
    """`classifier` with a head in float32, and an id for padding; raises ModelError when its head is another one."""
    parts: dict[str, Any] = {
        name: child for name, child in classifier.named_children() if any(True for _ in child.parameters())
    }
    head: Any = parts.get(HEAD)
    known = set(parts) == {HEAD, classifier.base_model_prefix} and isinstance(head, nn.Linear)
    if not known or [name for name, _ in head.named_parameters()] != ["weight"]:
        raise ModelError(
            f"{type(classifier).__name__} has more than one linear layer without bias above its layers",
            hint="choose a reward model whose head is a linear layer called 'score', as transformers makes them",
        )
    exact = Score(head.in_features, head.out_features, bias=False, device="meta")
    exact.weight = nn.Parameter(head.weight.detach().float())
    classifier.set_submodule(HEAD, exact)
    text = classifier.config.get_text_config()
    text.pad_token_id = pad if text.pad_token_id is None else text.pad_token_id
    return classifier


def _draw(classifier: Any, device: torch.device, seed: int) -> None:
    weight = classifier.get_submodule(HEAD).weight
    if device.type == "meta":
        return
    chance = torch.Generator().manual_seed(seed)
    drawn = torch.randn(weight.shape, generator=chance) / (weight.shape[1] + 1) ** 0.5
    classifier.get_submodule(HEAD).weight = nn.Parameter(drawn.to(device))


def _no_classifier(name: str) -> ModelError:
    return ModelError(
        f"no sequence classifier can be made of the architecture of {name}",
        hint="choose another base, such as Qwen, Llama, GLM, Mistral, Gemma, Phi or BLOOM",
    )


def judged(batch: Batch, documents: int) -> Batch:
    """A batch of language modelling, a row or padded, as a sequence classifier reads it; its first documents count."""
    inputs = {name: value for name, value in batch.items() if name not in _OF_LABELS} | {"use_cache": False}
    if "cu_seq_lens_q" in batch:
        return {**inputs, ENDS: batch["cu_seq_lens_q"][1 : documents + 1].long() - 1}
    rows, longest = batch["input_ids"].shape
    return {**inputs, ENDS: torch.arange(rows) * longest + batch["attention_mask"].sum(1) - 1}


class AtEnds:
    """Reads rewards at the ends of documents. The head is given those positions alone, within the model's forward."""

    def __init__(self) -> None:
        self._ends = self._found = torch.empty(0)

    @contextmanager
    def laid_on(self, classifier: Any) -> Iterator[None]:
        """Within the block `rewards` can be read of `classifier`, or of what is laid around it."""
        head = classifier.get_submodule(HEAD)
        handles = [head.register_forward_pre_hook(self._picked), head.register_forward_hook(self._kept)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def rewards(self, model: Any, batch: Batch) -> Tensor:
        """One forward of `model` on a batch of `judged`: [documents], float32."""
        self._ends = batch[ENDS]
        inputs = {name: value for name, value in batch.items() if name != ENDS}
        # Sharded weights are gathered for the backward when a gradient reaches what the model gave.
        unused = model(**inputs).logits.sum() * 0.0
        found, self._found = self._found, torch.empty(0)
        rewards: Tensor = found + unused
        return rewards

    def _picked(self, head: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        self._shape = inputs[0].shape[:-1]
        return (inputs[0].flatten(0, -2)[self._ends],)

    def _kept(self, head: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        self._found = output[:, 0]
        return output.mean().expand(*self._shape, 1)  # the model's own pooling goes on with something of its shape


def packs(classifier: Any, device: torch.device) -> bool:
    """Whether rows without padding, attended by document, are read as each document alone."""
    vocabulary = classifier.config.get_text_config().vocab_size
    ids = [numpy.arange(3, 3 + length, dtype=numpy.int32) * 7 % vocabulary for length in _TRIED]
    documents = [Example(ids=one, trained=one >= 0) for one in ids]
    reader = AtEnds()
    with torch.no_grad(), reader.laid_on(classifier):
        try:
            row = reader.rewards(classifier, on_device(judged(side_by_side(documents), len(documents)), device))
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, AttributeError, RuntimeError, KeyError):
            return False  # the plain way is taken, or asked for
        with attention.own(classifier):
            alone = [reader.rewards(classifier, on_device(judged(padded([one], 0), 1), device)) for one in documents]
    exact = all(weight.dtype == torch.float32 for weight in classifier.parameters())
    tolerance = TOLERANCE if exact else 50 * TOLERANCE
    return bool(torch.allclose(row, torch.cat(alone), rtol=tolerance, atol=tolerance))


def batch_of(examples: Sequence[Example], pad: int, *, packing: bool) -> Batch:
    """Documents to be judged, in a row without padding or in padded rows."""
    return judged(side_by_side(examples) if packing else padded(examples, pad), len(examples))
