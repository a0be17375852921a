"""Answers while a model learns: greedy, kept, and without a trace in the run."""

import json
import shutil

import pytest
import torch

from medcli.core.chat_template import plain
from medcli.core.prompts import QUESTIONS
from medcli.core.record import Message
from medcli.core.run_folder import RunFolder
from medcli.engine import samples
from medcli.engine.encode import encode
from medcli.engine.loss import head_in_loss
from medcli.engine.pack import Blocks, Examples
from tests import tiny_model
from tests.engine import small_runs
from tests.engine.small_runs import Notes, examples, saved, settings, train

DIALOGUE = [Message(role="user", content="头痛怎么办？"), Message(role="assistant", content="多休息。")]


def asked(path):
    return [json.loads(line) for line in RunFolder(path).samples_file.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("tuner", "words"),
    [
        ("lora", {"dropout": 0.2, "neftune": 5.0}),
        ("lora", {"dropout": 0.2, "precision": "bf16"}),
        ("full", {"precision": "bf16"}),
        ("freeze", {}),
        ("ptuning", {}),
    ],
)
def test_a_run_is_bitwise_the_same_with_samples(tiny_folder, tmp_path, tuner, words):
    valid = examples(2, seed=9)
    train(tiny_folder, tmp_path / "without", settings(tuner, max_steps=3, **words), tuner, valid=valid)
    report = Notes()
    wanted = settings(tuner, max_steps=3, sample_every=2, **words)
    train(tiny_folder, tmp_path / "with", wanted, tuner, valid=valid, report=report)
    assert small_runs.same(saved(tmp_path / "without"), saved(tmp_path / "with"))
    rows = asked(tmp_path / "with")
    assert [row["step"] for row in rows] == [0] * 2 + [2] * 2 + [3] * 2
    assert len({row["question"] for row in rows}) == 2
    assert sum(note.startswith("step ") and "→" in note for note in report.notes) == 6
    assert not RunFolder(tmp_path / "without").samples_file.exists()


@torch.no_grad()
def likeliest(loaded, prompt):
    """The naive twin: the whole text goes through the model for each token."""
    ids = list(prompt.ids)
    for _ in range(64):
        token = int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
        if token in loaded.stops:
            break
    return loaded.tokenizer.decode(ids[len(prompt.ids) :], skip_special_tokens=True).rstrip("\ufffd")


def test_answers_are_those_of_the_model_alone(tiny_folder):
    """Under the head that hands hidden states on, and attention by document, the model speaks as it does in a chat."""
    wanted = settings("full")
    loaded = small_runs.prepared(tiny_folder, wanted, "full")
    prompts = samples.prompts(loaded, examples(2, seed=4))
    loaded.model.train()
    with head_in_loss(loaded.causal_lm):
        found = samples.answer(loaded, prompts, wanted)
        assert loaded.model.training
        assert loaded.model.config._attn_implementation == "by_document"
        assert loaded.causal_lm.lm_head.forward(torch.ones(3)).shape == (3,)  # handed on again
    alone = tiny_model.loaded(tiny_folder)
    assert found == [likeliest(alone, prompt) for prompt in prompts]
    assert any(found)


def test_without_validation_data_the_questions_are_fixed(tiny_folder):
    loaded = tiny_model.loaded(tiny_folder)
    found = samples.prompts(loaded, None)
    assert [prompt.text for prompt in found] == list(QUESTIONS[:3])
    segments = loaded.template.render([Message(role="user", content=QUESTIONS[0])], ask=True)
    assert list(found[0].ids) == loaded.tokenizer(plain(segments), add_special_tokens=False)["input_ids"]


def test_the_question_is_all_before_the_first_answer(tiny_folder):
    loaded = tiny_model.loaded(tiny_folder)
    valid = Examples(iter(encode([loaded.template.render([*DIALOGUE, *DIALOGUE])], loaded.tokenizer)))
    (prompt,) = samples.prompts(loaded, valid)
    assert "头痛怎么办？" in prompt.text
    assert "多休息" not in prompt.text
    assert list(prompt.ids) == list(valid[0].ids[: len(prompt.ids)])
    assert not valid[0].trained[: len(prompt.ids)].any()
    assert valid[0].trained[len(prompt.ids)]


def test_documents_are_gone_on_with(tiny_folder, tmp_path):
    documents = Examples(small_runs.example(length, 0, length) for length in (30, 50, 5, 40))
    loaded = tiny_model.loaded(tiny_folder)
    prompts = samples.prompts(loaded, Blocks(documents, 60))
    assert [list(prompt.ids) for prompt in prompts] == [list(documents[n].ids[:12]) for n in range(3)]
    train(tiny_folder, tmp_path / "one", settings(sample_every=4), data=documents, valid=Blocks(documents, 60))
    assert [row["step"] for row in asked(tmp_path / "one")] == [0] * 3 + [4] * 3


def test_a_resumed_run_asks_no_question_twice(tiny_folder, tmp_path):
    wanted = settings(sample_every=2, max_steps=4, save_every=2, keep_checkpoints=9)
    valid = examples(1, seed=9)
    train(tiny_folder, tmp_path / "one", wanted, valid=valid)
    before = asked(tmp_path / "one")
    shutil.rmtree(tmp_path / "one" / "checkpoints" / "checkpoint-4")
    train(tiny_folder, tmp_path / "one", wanted, valid=valid)
    assert asked(tmp_path / "one") == before


def test_checkpointed_layers_speak_with_their_cache(tiny_folder, tmp_path):
    for name, on in {"kept": False, "again": True}.items():
        wanted = settings(sample_every=1, max_steps=1, checkpointing=on)
        train(tiny_folder, tmp_path / name, wanted, valid=examples(1, seed=9))
    assert asked(tmp_path / "kept") == asked(tmp_path / "again")
