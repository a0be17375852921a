"""Log-probabilities at chosen places are those of the whole logits."""

import pytest
import torch

from medcli.engine.likelihood import Targets, log_probabilities
from tests import tiny_model

ROWS, COLUMNS = torch.tensor([0, 1, 1]), torch.tensor([3, 0, 4])


@pytest.fixture(scope="module")
def loaded(tiny_folder):
    return tiny_model.loaded(tiny_folder)


@pytest.fixture
def inputs():
    return {"input_ids": torch.randint(4, 700, (2, 5), generator=torch.Generator().manual_seed(0))}


def test_they_are_those_of_the_whole_logits(loaded, inputs):
    which, tokens = torch.tensor([2, 0, 0, 1]), torch.tensor([7, 9, 700, 11])
    found = log_probabilities(loaded, inputs, Targets(rows=ROWS, columns=COLUMNS, which=which, tokens=tokens))
    whole = loaded.model(**inputs).logits.log_softmax(-1)
    assert found.tolist() == pytest.approx(whole[ROWS[which], COLUMNS[which], tokens].tolist(), abs=1e-5)


def test_the_whole_vocabulary_shares_one(loaded, inputs):
    words = loaded.model.config.vocab_size
    which = torch.arange(3).repeat_interleave(words)
    targets = Targets(rows=ROWS, columns=COLUMNS, which=which, tokens=torch.arange(words).repeat(3))
    shares = log_probabilities(loaded, inputs, targets).exp().view(3, words).sum(1)
    assert shares.tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_the_model_gives_whole_logits_again(loaded, inputs):
    nothing = torch.zeros(0, dtype=torch.long)
    assert not len(
        log_probabilities(loaded, inputs, Targets(rows=nothing, columns=nothing, which=nothing, tokens=nothing))
    )
    assert loaded.model(**inputs).logits.shape[:2] == (2, 5)
