"""Documents for continued pre-training: ended by EOS, cut without a loss, put into blocks, and never mixed."""

import numpy
import pytest

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Document
from medcli.core.report import Silent
from medcli.engine.encode import encode_documents
from medcli.engine.load import plain_tokenizer
from medcli.engine.pack import Blocks, Examples, flat, side_by_side

TEXTS = ("头痛应当休息。", "高血压患者要少吃盐，多走动，按时服药，定期量血压。" * 3, "感冒。", "咳嗽三周以上要拍胸片。")


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return plain_tokenizer(ModelRef(base=str(tiny_folder)), Silent())


def encoded(tokenizer, max_length, texts=TEXTS):
    documents = [Document(id=str(number), text=text, source="t") for number, text in enumerate(texts)]
    return Examples(encode_documents(documents, tokenizer, max_length=max_length))


def test_each_document_ends_with_eos_and_is_learnt_whole(tokenizer):
    examples = encoded(tokenizer, 512)
    assert len(examples) == len(TEXTS)
    for index, text in enumerate(TEXTS):
        ids = examples[index].ids.tolist()
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[:-1]) == text
        assert examples[index].trained.all()


@pytest.mark.parametrize("max_length", [8, 9, 10, 33])
def test_pieces_of_a_long_document_learn_each_token_once(tokenizer, max_length):
    whole = encoded(tokenizer, 10_000, TEXTS[1:2])[0].ids.tolist()
    pieces = encoded(tokenizer, max_length, TEXTS[1:2])
    rows = [pieces[index].ids.tolist() for index in range(len(pieces))]
    assert all(2 <= len(row) <= max_length for row in rows)
    assert rows[0] + [token for row in rows[1:] for token in row[1:]] == whole
    assert all(before[-1] == after[0] for before, after in zip(rows, rows[1:], strict=False))
    targets = [token for row in rows for token in side_by_side_targets(row)]
    assert targets == whole[1:]


def side_by_side_targets(row):
    from medcli.engine.pack import Example

    batch = side_by_side([Example(ids=numpy.array(row, numpy.int32), trained=numpy.ones(len(row), bool))])
    return batch["shift_labels"][0].tolist()


def test_blocks_hold_every_document_once_in_order(tokenizer):
    examples = encoded(tokenizer, 64, TEXTS * 5)
    blocks = Blocks(examples, 64)
    inside = [blocks[index] for index in range(len(blocks))]
    assert [one.number for block in inside for one in block] == list(range(len(examples)))
    assert all(sum(len(one.ids) for one in block) <= 64 for block in inside)
    assert blocks.tokens == examples.tokens
    fuller = [sum(len(one.ids) for one in block) for block in inside]
    assert all(total + len(after[0].ids) > 64 for total, after in zip(fuller, inside[1:], strict=False))


def test_a_block_is_a_row_of_documents_of_their_own(tokenizer):
    blocks = Blocks(encoded(tokenizer, 64), 64)
    batch = side_by_side(flat([blocks[0], blocks[1]]))
    starts = (batch["position_ids"][0] == 0).nonzero()[:, 0].tolist()
    assert starts == batch["cu_seq_lens_q"][:-1].tolist()


def test_no_data_makes_no_blocks():
    assert len(Blocks(Examples(iter(())), 64)) == 0


def test_a_tokenizer_without_an_end_is_refused(tokenizer):
    class Endless:
        eos_token_id = None

    with pytest.raises(ModelError, match="no end-of-text"):
        list(encode_documents([Document(id="1", text="好", source="t")], Endless(), max_length=8))
