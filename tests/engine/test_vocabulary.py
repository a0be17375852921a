"""Extending a vocabulary: the new pieces are used, and nothing else changes."""

import io
import random
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import AutoModelForCausalLM, PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine import tiny
from medcli.engine.load import load, plain_model
from medcli.engine.new_pieces import LONGEST, learn
from medcli.engine.vocabulary import FastVocabulary, Piece, grow, only_joins, open_vocabulary
from tests import tiny_model
from tests.conftest import shared

WORDS = ("黧黑", "阿司匹林", "螺内酯", "房颤", "缬沙坦", "心肌梗死", "癔症", "呋塞米", "支气管哮喘", "倍他乐克")
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
TOKENIZERS = ("tiny", "byte fallback", "pieces", "qwen2.5", "minimind", "chatglm3")


def corpus(count=240, seed=3):
    """Sentences with words that general tokenizers have no piece for."""
    chance = random.Random(seed)
    return [
        f"患者{number}岁，既往{chance.choice(WORDS)}，现服{chance.choice(WORDS)}和{chance.choice(WORDS)}CT。"
        for number in range(count)
    ]


def byte_fallback():
    """A tokenizer of Llama's kind: English, and single bytes for all else."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz,.", "th", "the"]
    core = Tokenizer(
        models.BPE(
            vocab={token: id for id, token in enumerate(tokens)}, merges=[("t", "h"), ("th", "e")],
            unk_token="<unk>", fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def sentencepiece_model(folder, kind="bpe"):
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    written = io.BytesIO()
    trainer.train(
        sentence_iterator=iter([f"The patient takes {n} of it, 患者{n}岁。" for n in range(50)]),
        model_writer=written, vocab_size=330, model_type=kind, byte_fallback=True, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    return folder


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A function that opens a vocabulary by name and extends it, once."""
    found = {}

    def both(name):
        if name not in found:
            folder = tmp_path_factory.mktemp("vocabulary")
            if name == "tiny":
                old = open_vocabulary(str(tiny_model.write(folder / "old")), Silent())
            elif name == "byte fallback":
                old = FastVocabulary(name, byte_fallback())
            elif name == "pieces":
                old = open_vocabulary(str(sentencepiece_model(folder / "old")), Silent())
            else:
                if name == "chatglm3":
                    pytest.importorskip("sentencepiece")
                old = open_vocabulary(str(shared(f"tokenizers/{name}")), Silent())
            pieces = learn(old, corpus(), 60)
            (folder / "new").mkdir()
            found[name] = old, old.extended(pieces, folder / "new"), pieces
        return found[name]

    return both


@pytest.mark.parametrize("name", TOKENIZERS)
def test_new_pieces_shorten_text_they_were_not_learnt_from(opened, name):
    old, new, pieces = opened(name)
    assert 0 < len(pieces) <= 60
    assert new.size == old.size + len(pieces)
    texts = corpus(60, seed=9)
    before, after = old.encode(texts), new.encode(texts)
    assert sum(map(len, after)) < 0.8 * sum(map(len, before))
    assert [new.decode(ids) for ids in after] == [old.decode(ids) for ids in before]
    assert new.encode(["心肌梗死"])[0][-1] >= old.size
    whole = [piece.text for piece in pieces if len(piece.text) > 1]
    assert len(set(whole)) == len(whole)
    assert all(len(text) <= LONGEST for text in whole)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_each_piece_is_one_token_with_the_next_free_id_and_its_parts_are_its_old_tokens(opened, name):
    old, new, pieces = opened(name)
    for id, piece in enumerate(pieces, old.size):
        assert new.tokens[id] == piece.token
        assert b"".join(old.surfaces[part] for part in piece.parts) == new.surfaces[id]
        assert not piece.text or new.surfaces[id].decode() == piece.text


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_old_tokens_keep_their_ids_and_special_ones_stay_whole(opened, name):
    old, new, _ = opened(name)
    assert list(new.tokens[: old.size]) == list(old.tokens)
    assert new.broken.intersection(range(old.size)) == old.broken
    text = f"{SPECIAL[0]}user\n阿司匹林{SPECIAL[1]}{SPECIAL[2]}"
    special = [id for id in old.encode([text])[0] if old.tokens[id] in SPECIAL]
    assert [id for id in new.encode([text])[0] if new.tokens[id] in SPECIAL] == special
    assert len(special) == {"qwen2.5": 3, "minimind": 3}.get(name, 0)


mixed = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="".join(WORDS) + "患者岁，。 CT12\n", max_size=30),
    st.lists(st.sampled_from([*WORDS, "患者", " ", "▁", "\n", "é", "e\u0301", "😀", *SPECIAL]), max_size=8).map(
        "".join
    ),
)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=mixed)
@settings(max_examples=40, deadline=None)
def test_the_old_tokens_of_every_text_are_only_joined(opened, name, text):
    """A text without a new piece is tokenised as before; elsewhere each new token stands for its parts."""
    old, new, pieces = opened(name)
    (before,), (after,) = old.encode([text]), new.encode([text])
    assert only_joins(old, before, new, after)
    assert new.decode(after) == old.decode(before)
    if isinstance(old, FastVocabulary):  # SentencePiece may reach a piece from other parts as well
        assert [part for id in after for part in (pieces[id - old.size].parts if id >= old.size else (id,))] == before
    if name in ("tiny", "minimind"):
        assert new.decode(after) == text
    if name == "qwen2.5":
        assert new.decode(after) == unicodedata.normalize("NFC", text)


def test_only_joins_sees_what_it_must(opened):
    old, new, pieces = opened("minimind")
    (before,), (after,) = old.encode(["既往癔症"]), new.encode(["既往癔症"])
    assert only_joins(old, before, new, after)
    assert max(after) >= old.size
    assert not only_joins(old, before, new, after[:-1])
    assert not only_joins(old, before[:-1], new, after)
    assert not only_joins(old, old.encode(["既往症癔"])[0], new, after)
    assert not only_joins(old, old.encode(["abba"])[0], new, [*old.encode(["ab"])[0], *old.encode(["ab"])[0]])


def test_old_merges_go_before_new_ones(tmp_path):
    core = Tokenizer(models.BPE(vocab={"甲": 0, "乙": 1, "丙": 2, "乙丙": 3}, merges=[("乙", "丙")]))
    old = FastVocabulary("small", PreTrainedTokenizerFast(tokenizer_object=core))
    new = old.extended([Piece(token="甲乙", text="甲乙", merged=("甲", "乙"), parts=(0, 1), saved=1)], tmp_path)
    assert new.encode(["甲乙丙", "甲乙", "丙甲乙乙丙"]) == [[0, 3], [4], [2, 4, 3]]


def test_tokens_are_told_from_parts_of_characters(opened):
    old, new, _ = opened("byte fallback")
    (before,), (after,) = old.encode(["the 癔症"]), new.encode(["the 癔症"])
    assert sum(id in old.broken for id in before) == 6
    assert sum(id in new.broken for id in after) == 0
    assert len(after) < 5
    old, _, _ = opened("minimind")
    assert any(id in old.broken for id in old.encode(["癔"])[0])
    assert not any(id in old.broken for id in old.encode(["the patient"])[0])


def test_saved_is_what_it_says(opened):
    """On the text itself, the pieces together save what each is said to save."""
    for name in ("qwen2.5", "byte fallback", "tiny"):
        old, new, pieces = opened(name)
        before, after = (sum(map(len, v.encode(corpus()))) for v in (old, new))
        said = sum(piece.saved for piece in pieces)
        if name == "tiny":  # a merge of bytes serves rarer characters, too
            assert said <= before - after <= 1.2 * said
        else:
            assert before - after == pytest.approx(said, rel=0.02)


def test_other_kinds_of_vocabularies_are_refused(tmp_path):
    piece = [Piece(token="ab", text="ab", merged=("a", "b"), parts=(1, 2), saved=1)]
    core = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    words = FastVocabulary("words", PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="WordPiece"):
        words.extended(piece, tmp_path)
    unigram = open_vocabulary(str(sentencepiece_model(tmp_path / "unigram", "unigram")), Silent())
    with pytest.raises(ModelError, match="unigram"):
        unigram.extended(piece, tmp_path)


def test_what_is_no_tokenizer_is_told(tmp_path):
    pytest.importorskip("sentencepiece")
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="damaged"):
        open_vocabulary(str(tmp_path), Silent())
    with pytest.raises(ModelError, match="no model or run"):
        open_vocabulary("nothing", Silent())


def saved_model(folder: Path, *, tied: bool, spare: int = 0, dtype=torch.float32) -> Path:
    tiny_model.write(folder)
    tokenizer = open_vocabulary(str(folder), Silent()).tokenizer
    torch.manual_seed(1)
    model = tiny.make_model(tokenizer, **(tiny_model.SHAPE | {"tie_word_embeddings": tied}))
    if spare:
        model.resize_token_embeddings(len(tokenizer) + spare, mean_resizing=False)
    model.to(dtype).save_pretrained(folder)
    return folder


def rows_of(model):
    head = model.get_output_embeddings()
    return [table.detach().float().tolist() for table in (model.get_input_embeddings().weight, head.weight)]


@pytest.mark.parametrize(("tied", "spare"), [(True, 0), (False, 0), (True, 100), (False, 7)])
def test_new_rows_are_means_and_old_logits_stay(tmp_path, tied, spare):
    folder = saved_model(tmp_path / "old", tied=tied, spare=spare)
    vocabulary = open_vocabulary(str(folder), Silent())
    pieces = learn(vocabulary, corpus(), 40)
    rows = {vocabulary.size + index: piece.parts for index, piece in enumerate(pieces)}
    model = plain_model(ModelRef(base=str(folder)), Silent())
    tables = rows_of(model)
    ids = torch.tensor(vocabulary.encode([corpus()[0]]))
    with torch.no_grad():
        logits = model(ids).logits[..., : vocabulary.size]
    grow(model, rows)
    model.save_pretrained(tmp_path / "new")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    again.config._attn_implementation = "eager"
    assert again.config.vocab_size == max(vocabulary.size + spare, vocabulary.size + len(pieces))
    for before, after in zip(tables, rows_of(again), strict=True):
        assert after[: vocabulary.size] == before[: vocabulary.size]
        for id, parts in rows.items():
            naive = [sum(before[part][place] for part in parts) / len(parts) for place in range(len(before[0]))]
            assert after[id] == pytest.approx(naive, abs=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(plain_model(ModelRef(base=str(tmp_path / "new")), Silent())(ids).logits[
            ..., : vocabulary.size], logits, atol=1e-5, rtol=1e-5)  # fmt: skip


def test_half_precision_stays(tmp_path):
    folder = saved_model(tmp_path / "old", tied=False, dtype=torch.bfloat16)
    model = plain_model(ModelRef(base=str(folder)), Silent())
    grow(model, {800: (3, 4, 5)})
    assert model.lm_head.weight.dtype == model.get_input_embeddings().weight.dtype == torch.bfloat16
    wanted = model.lm_head.weight[3:6].float().mean(0).to(torch.bfloat16)
    assert torch.equal(model.lm_head.weight[800], wanted)


def test_a_head_with_a_bias_gets_the_mean_of_it_too():
    config = PhiConfig(vocab_size=30, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = PhiForCausalLM(config)
    with torch.no_grad():
        model.lm_head.bias.copy_(torch.arange(30.0))
    grow(model, {30: (2, 6), 31: (5,)})
    assert model.lm_head.bias.tolist()[28:] == [28.0, 29.0, 4.0, 5.0]


def test_what_was_extended_is_loaded_and_learns(tmp_path):
    folder = saved_model(tmp_path / "old", tied=True)
    vocabulary = open_vocabulary(str(folder), Silent())
    pieces = learn(vocabulary, corpus(), 40)
    (tmp_path / "new").mkdir()
    vocabulary.extended(pieces, tmp_path / "new")
    model = plain_model(ModelRef(base=str(folder)), Silent())
    grow(model, {vocabulary.size + index: piece.parts for index, piece in enumerate(pieces)})
    model.save_pretrained(tmp_path / "new")
    loaded = load(ModelRef(base=str(tmp_path / "new")), device=torch.device("cpu"), report=Silent())
    ids = torch.tensor([loaded.tokenizer("心肌梗死<|end|>")["input_ids"]])
    assert ids.max() >= vocabulary.size
    loaded.model(input_ids=ids, labels=ids).loss.backward()
    assert loaded.model.get_input_embeddings().weight.grad[ids.max()].abs().sum() > 0
