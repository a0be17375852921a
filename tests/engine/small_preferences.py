"""Pairs of a few tokens, and DPO on them, for tests of what it minimises and of what comes of it."""

import numpy
import torch
from safetensors import safe_open

from medcli.core.alignment_settings import DpoSettings
from medcli.core.report import Silent
from medcli.core.run_folder import RunFolder
from medcli.engine import attention, dpo
from medcli.engine import device as devices
from medcli.engine.objective import Part
from medcli.engine.pack import Example, Examples, Pairs
from tests import tiny_model


def settings(**values):
    given = {"dataset": ("few",), "batch": 4, "precision": "fp32", "learning_rate": 5e-3, "schedule": "constant"}
    return DpoSettings(**given | {"warmup": 0.0, "max_steps": 3, "save_every": 100, "log_every": 1, **values})


def pairs(count=12, seed=0):
    """A prompt and two answers each, all of unequal lengths."""
    numbers = numpy.random.default_rng(seed)

    def made():
        for _ in range(count):
            prompt = numbers.integers(4, 700, numbers.integers(3, 9))
            for _ in range(2):
                answer = numbers.integers(4, 700, numbers.integers(2, 14))
                yield Example(
                    ids=numpy.concatenate([prompt, answer, [3]]).astype(numpy.int32),
                    trained=numpy.arange(len(prompt) + len(answer) + 1) >= len(prompt),
                )

    return Pairs(Examples(made()))


def prepared(folder, wanted):
    devices.seed_all(wanted.seed)
    return dpo.prepare(tiny_model.loaded(folder, attention.NAME if wanted.packing else "sdpa"), wanted)


def stirred(loaded):
    """The model as if it had learnt something: what learns is moved a little."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in loaded.model.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn_like(weight)
    return loaded


def train(folder, path, wanted, *, data=None, valid=None, report=None):
    loaded = prepared(folder, wanted)
    path.mkdir(parents=True, exist_ok=True)
    return loaded, dpo.train(loaded, data or pairs(), valid, wanted, RunFolder(path), report or Silent())


def figures(path, name):
    return [row[name] for row in RunFolder(path).metrics() if name in row]


def kept(path):
    with safe_open(path / "reference" / "log_probabilities.safetensors", framework="pt") as file:
        return file.get_tensor("reference")


def objective_of(loaded, wanted, splits, path):
    """The objective as a run makes it."""
    mismatched = dpo._mismatched(splits, wanted.max_length) if wanted.loss == "kto" else None
    reference = dpo.reference_of(loaded, splits, mismatched, wanted, RunFolder(path), Silent())
    return dpo.Preference(loaded, wanted, reference if wanted.has_reference else None, mismatched)


def measured(loaded, objective, examples) -> tuple[Part, dict[str, torch.Tensor]]:
    """The batch's part, and the gradients of its loss."""
    loaded.model.zero_grad()
    with objective.laid_over():
        part = objective.measure(loaded.model, objective.collate(examples))
        part.loss.backward()
    return part, {name: weight.grad.clone() for name, weight in loaded.model.named_parameters() if weight.requires_grad}


def assert_alike(ours, theirs):
    """Two losses, and two sets of gradients, which TRL's model may have more of for what does not learn."""
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
    assert any(gradient.abs().max() > 1e-3 for gradient in ours[1].values())
    for name, gradient in ours[1].items():
        torch.testing.assert_close(gradient, theirs[1][name], rtol=1e-4, atol=1e-5)
