"""Padding-free rows compute what the model itself computes on each document alone."""

import numpy
import pytest
import torch
import torch.nn.functional as F

from medcli.core.errors import ModelError
from medcli.engine import agreement, attention
from medcli.engine.loss import cross_entropy, head_in_loss
from medcli.engine.pack import GRAIN, IGNORED, Example, Examples, on_device, padded, side_by_side
from tests import tiny_model

CPU = torch.device("cpu")


def example(length, prompt, seed=0):
    chance = numpy.random.default_rng(seed)
    trained = numpy.arange(length) >= prompt
    return Example(ids=chance.integers(4, 700, length).astype(numpy.int32), trained=trained)


EXAMPLES = [example(17, 5, 1), example(40, 39, 2), example(3, 1, 3), example(90, 30, 4), example(17, 0, 5)]


@pytest.mark.parametrize("lengths", [(5,), (7, 7, 7), (3, 90, 4, 4, 60, 1), tuple(range(1, 40)), (64, 1, 1, 1)])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_attention_by_document_equals_the_mask(lengths, key_heads):
    """The naive twin: one block-diagonal causal mask over the whole row. Forward and gradients."""
    torch.manual_seed(0)
    total = sum(lengths)
    query = torch.randn(1, 4, total, 8, requires_grad=True)
    key, value = (torch.randn(1, key_heads, total, 8, requires_grad=True) for _ in range(2))
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = (document[:, None] == document[None]) & torch.ones(total, total).tril().bool()
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True).transpose(1, 2)
    ends = torch.tensor([0, *numpy.cumsum(lengths)], dtype=torch.int32)
    found, _ = attention.attend(
        torch.nn.Identity(), query, key, value, None, cu_seq_lens_q=ends, max_length_q=max(lengths)
    )
    assert torch.allclose(found, expected, atol=1e-5)
    weight = torch.randn_like(expected)
    for one, two in zip(
        torch.autograd.grad((found * weight).sum(), (query, key, value)),
        torch.autograd.grad((expected * weight).sum(), (query, key, value)),
        strict=True,
    ):
        assert torch.allclose(one, two, atol=1e-5)


def test_attention_refuses_a_batch_that_is_no_row():
    part = torch.randn(1, 4, 8, 8)
    with pytest.raises(TypeError, match="cu_seq_lens_q"):
        attention.attend(torch.nn.Identity(), part, part, part, None)


@pytest.mark.parametrize("count", [1, 7, 1024, 2500])
@pytest.mark.parametrize("bias", [False, True])
def test_cross_entropy_equals_full_logits(count, bias):
    torch.manual_seed(1)
    hidden = torch.randn(count, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(50, dtype=torch.float64) if bias else None
    targets = torch.randint(0, 50, (count,))
    plain = F.cross_entropy(F.linear(hidden, weight, offset), targets, reduction="sum")
    ours = cross_entropy(hidden, weight, targets, offset)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)
    for one, two in zip(
        torch.autograd.grad(ours * 0.5, (hidden, weight)),
        torch.autograd.grad(plain * 0.5, (hidden, weight)),
        strict=True,
    ):
        assert torch.allclose(one, two, atol=1e-4)


def test_cross_entropy_without_targets_stays_in_the_graph():
    hidden = torch.randn(0, 4, requires_grad=True)
    loss = cross_entropy(hidden, torch.randn(9, 4), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0.0


def row_loss(model, examples):
    with head_in_loss(model):
        return model(**on_device(side_by_side(examples), CPU)).loss


def test_row_loss_and_gradients_equal_the_padded_models(tiny_folder):
    fast = tiny_model.loaded(tiny_folder, attention.NAME).model
    plain = tiny_model.loaded(tiny_folder).model
    ours = row_loss(fast, EXAMPLES)
    theirs = plain(**on_device(padded(EXAMPLES, 0), CPU), use_cache=False).loss
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    ours.backward()
    theirs.backward()
    for (name, one), two in zip(fast.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, atol=1e-5), name


def test_a_document_does_not_see_its_neighbours(tiny_folder):
    """The trap of packed rows: contaminated attention gives a lower loss that looks fine."""
    model = tiny_model.loaded(tiny_folder, attention.NAME).model
    alone = [float(row_loss(model, [one]).detach()) for one in EXAMPLES]
    counts = [int(one.trained[1:].sum()) for one in EXAMPLES]
    together = float(row_loss(model, EXAMPLES).detach())
    assert together == pytest.approx(numpy.average(alone, weights=counts), rel=1e-5)
    swapped = float(row_loss(model, EXAMPLES[::-1]).detach())
    assert together == pytest.approx(swapped, rel=1e-5)


def test_rows_carry_no_mask_and_count_real_tokens():
    batch = side_by_side(EXAMPLES)
    assert "attention_mask" not in batch
    assert batch["use_cache"] is False
    assert batch["input_ids"].shape[1] % GRAIN == 0
    starts = (batch["position_ids"][0] == 0).nonzero()[:, 0].tolist()
    assert starts[: len(EXAMPLES)] == [0, 17, 57, 60, 150]
    assert not set(batch["logits_to_keep"].tolist()) & {start - 1 for start in starts}  # no document's end is labelled


def test_labels_of_rows_are_those_of_padded_batches():
    padded_labels = padded(EXAMPLES, 0)["labels"][:, 1:]
    assert side_by_side(EXAMPLES)["shift_labels"][0].tolist() == padded_labels[padded_labels != IGNORED].tolist()


def test_examples_give_back_what_they_took():
    kept = Examples(iter(EXAMPLES))
    assert len(kept) == len(EXAMPLES)
    assert kept.tokens == sum(len(one.ids) for one in EXAMPLES)
    for one, two in zip(kept, EXAMPLES, strict=True):
        assert numpy.array_equal(one.ids, two.ids)
        assert numpy.array_equal(one.trained, two.trained)


def test_agreement_passes_a_llama_and_stops_what_bends_its_logits(tiny_folder):
    loaded = tiny_model.loaded(tiny_folder, attention.NAME)
    agreement.check(loaded, EXAMPLES)
    loaded.model.lm_head.register_forward_hook(lambda head, hidden, logits: torch.tanh(logits) * 30.0)
    with pytest.raises(ModelError, match="--no-packing|change this model's loss"):
        agreement.check(loaded, EXAMPLES)


def test_the_head_is_put_back(tiny_folder):
    model = tiny_model.loaded(tiny_folder, attention.NAME).model
    head = model.lm_head
    hidden = torch.ones(1, 32)
    logits = head(hidden)
    with head_in_loss(model):
        assert torch.equal(head(hidden), hidden)
    assert torch.equal(head(hidden), logits)
    assert "_loss_function" not in model.__dict__
