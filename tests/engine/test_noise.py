"""NEFTune: noise of the right size for each document, in training only."""

import torch

from medcli.core.train_settings import TrainSettings
from medcli.engine.noise import noise_on_embeddings
from medcli.engine.pack import on_device, padded, side_by_side
from tests import tiny_model
from tests.engine.test_rows import EXAMPLES

ALPHA = 5.0


def noise_of(model, batch, tell, training=True):
    """What the embeddings of a batch are changed by."""
    plain = torch.nn.functional.embedding(batch["input_ids"], model.get_input_embeddings().weight)
    model.train(training)
    tell(EXAMPLES, training)
    return (model.get_input_embeddings()(batch["input_ids"]) - plain).detach()


def test_each_document_gets_noise_of_its_own_length(tiny_folder):
    """A naive twin draws at most alpha / sqrt(length x width) for each document alone."""
    model = tiny_model.loaded(tiny_folder, "by_document").model
    settings = TrainSettings(dataset=("x",), neftune=ALPHA)
    torch.manual_seed(0)
    with noise_on_embeddings(model, settings) as tell:
        row = noise_of(model, side_by_side(EXAMPLES), tell)[0]
    width = row.shape[1]
    start = 0
    for example in EXAMPLES:
        length = len(example.ids)
        largest = row[start : start + length].abs().max()
        bound = ALPHA / (length * width) ** 0.5
        assert 0.9 * bound < largest <= bound
        start += length
    assert not row[start:].any()  # the filler


def test_padded_rows_are_noised_alike(tiny_folder):
    model = tiny_model.loaded(tiny_folder).model
    settings = TrainSettings(dataset=("x",), neftune=ALPHA, packing=False)
    with noise_on_embeddings(model, settings) as tell:
        rows = noise_of(model, padded(EXAMPLES, 0), tell)
    for row, example in zip(rows, EXAMPLES, strict=True):
        bound = ALPHA / (len(example.ids) * rows.shape[2]) ** 0.5
        assert 0.8 * bound < row.abs().max() <= bound


def test_no_noise_outside_training_nor_after(tiny_folder):
    model = tiny_model.loaded(tiny_folder).model
    settings = TrainSettings(dataset=("x",), neftune=ALPHA, packing=False)
    with noise_on_embeddings(model, settings) as tell:
        assert not noise_of(model, padded(EXAMPLES, 0), tell, training=False).any()
    assert not noise_of(model, padded(EXAMPLES, 0), lambda *_: None).any()


def test_noise_changes_what_is_learnt(tiny_folder):
    model = tiny_model.loaded(tiny_folder).model
    batch = on_device(padded(EXAMPLES, 0), model.device)
    settings = TrainSettings(dataset=("x",), neftune=ALPHA, packing=False)
    quiet = model(**batch).loss
    with noise_on_embeddings(model, settings) as tell:
        model.train()
        tell(EXAMPLES, True)
        assert not torch.isclose(model(**batch).loss, quiet, atol=1e-7)
