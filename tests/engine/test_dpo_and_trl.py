"""The loss of a batch of pairs, and its gradients, are those of TRL's trainers."""

import pytest
import torch

from medcli.engine import dpo
from medcli.engine.pack import flat, padded
from tests.engine.small_preferences import assert_alike, measured, objective_of, pairs, prepared, settings, stirred


@pytest.fixture
def rival(tiny_folder, tmp_path):
    """A trainer of TRL's for a model, with TRL's own defaults that bite turned off."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    def made(kind, arguments, model, rows, **values):
        how = arguments(
            output_dir=str(tmp_path / "trl"),
            bf16=False,
            use_cpu=True,
            report_to="none",
            activation_checkpointing=False,
            **values,
        )
        tokenizer = AutoTokenizer.from_pretrained(tiny_folder, pad_token="<|user|>")
        return kind(model, args=how, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)

    return made


def of_trl(examples):
    """Padded rows by TRL's names."""
    batch = padded(examples, 0)
    mask = (batch["labels"] != -100).long()
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "completion_mask": mask}


def judged(trl, batch, pairs):
    """TRL's loss of a batch, which is a mean, and its gradients as if it were a sum over the pairs."""
    stirred(trl)
    trl.model.zero_grad()
    loss = trl.compute_loss(trl.model, batch)
    loss.backward()
    named = trl.model.named_parameters()
    return loss.detach(), {name: weight.grad * pairs for name, weight in named if weight.requires_grad}


@pytest.mark.parametrize("name", ["sigmoid", "ipo", "hinge"])
def test_loss_and_gradients_are_those_of_trls_trainer(tiny_folder, tmp_path, rival, name):
    """The same pairs: TRL's in padded rows, its reference in each step; ours in one row, its reference asked before."""
    from trl import DPOConfig, DPOTrainer

    wanted, data = settings(loss=name, beta=0.3), pairs(5)
    loaded = stirred(prepared(tiny_folder, wanted))
    examples = flat([data[index] for index in range(5)])
    part, gradients = measured(loaded, objective_of(loaded, wanted, [data], tmp_path), examples)
    rows = [{"prompt": "头", "chosen": "痛", "rejected": "晕"}]
    model = prepared(tiny_folder, settings(packing=False)).model
    trl = rival(DPOTrainer, DPOConfig, model, rows, loss_type=name, beta=0.3)
    assert_alike((part.loss.detach() / 5, gradients), judged(trl, of_trl([*examples[::2], *examples[1::2]]), 5))


def test_kto_is_that_of_trls_trainer(tiny_folder, tmp_path, rival):
    """Each pair gives TRL one good answer and one bad one; the mismatched answers are given to it as they are ours."""
    from trl import KTOConfig, KTOTrainer

    wanted, data = settings(loss="kto", beta=0.3), pairs(5, seed=1)  # for which the divergence is not below zero
    loaded = stirred(prepared(tiny_folder, wanted))
    examples = flat([data[index] for index in range(5)])
    part, gradients = measured(loaded, objective_of(loaded, wanted, [data], tmp_path), examples)
    rows = [{"prompt": "头", "completion": "痛", "label": label} for label in (True, False)]
    model = prepared(tiny_folder, settings(packing=False)).model
    trl = rival(KTOTrainer, KTOConfig, model, rows, beta=0.3, per_device_train_batch_size=2)
    mismatched = dpo._mismatched([data], 1024)
    others = of_trl([mismatched[index] for index in range(5)])
    batch = of_trl(examples) | {f"KL_{name}": part for name, part in others.items()}
    batch["label"] = torch.tensor([True, False] * 5)
    theirs = judged(trl, batch, 5)
    assert float(part.figures["divergence"]) > 0.1
    assert_alike((part.loss.detach() / 5, gradients), theirs)
