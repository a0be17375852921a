"""Answers drawn in batches are those that the model gives alone, and follow from a generator's state."""

from dataclasses import replace

import numpy
import pytest
import torch

from medcli.core.errors import ModelError
from medcli.core.tuner_settings import LoraSettings
from medcli.engine import attention, lora
from medcli.engine.rollout import choose, draw
from tests import families, tiny_model

LENGTHS = (3, 9, 9, 4, 17, 3)


@pytest.fixture(scope="module", params=tiny_model.FAMILIES)
def loaded(request, tmp_path_factory):
    return tiny_model.loaded(tiny_model.write(tmp_path_factory.mktemp(request.param), request.param), attention.NAME)


@pytest.fixture(scope="module")
def llama(tiny_folder):
    return tiny_model.loaded(tiny_folder, attention.NAME)


def prompts(seed=0):
    """Of several lengths, one of them twice."""
    chance = numpy.random.default_rng(seed)
    made = [chance.integers(4, 700, length).astype(numpy.int32) for length in LENGTHS]
    return [*made, made[1].copy()]


def answers(loaded, asked, *, temperature=0.0, max_tokens=24, batch=4, seed=0, **how):
    generator = torch.Generator().manual_seed(seed)
    how = {"precision": "fp32", "advance": lambda done: None} | how
    drawn = draw(loaded, asked, max_tokens=max_tokens, temperature=temperature, generator=generator, batch=batch, **how)
    return [(one.ids, one.ended) for one in drawn]


def alone(loaded, prompt, max_tokens):
    """The likeliest answer, the whole text read anew for every token."""
    ids, said = prompt.tolist(), []
    with attention.own(loaded.causal_lm), torch.no_grad():
        while len(said) < max_tokens and not (said and said[-1] in loaded.stops):
            said.append(int(loaded.causal_lm(input_ids=torch.tensor([ids + said])).logits[0, -1].argmax()))
    return said, said[-1] in loaded.stops


def with_stops(loaded, *stops):
    return replace(loaded, stops=stops)


def test_greedy_answers_are_those_of_the_model_alone(loaded):
    asked = prompts()
    free = answers(loaded, asked)
    # Words that these models do say, so that rows end at different places.
    stops = {free[0][0][1], free[4][0][6], free[1][0][11]}
    ending = with_stops(loaded, *stops)
    expected = [alone(ending, prompt, 24) for prompt in asked]
    assert answers(ending, asked, batch=8) == answers(ending, asked, batch=3) == expected
    assert len({len(ids) for ids, _ in expected}) > 1


# A window shorter than the texts, capped scores, positions that the model counts itself.
@pytest.mark.parametrize("family", ["mistral", "gemma2", "bloom"])
def test_other_families_too(tmp_path, family):
    model = tiny_model.loaded(families.write(family, tmp_path / family))
    asked = prompts()
    free = answers(model, asked, max_tokens=12)
    ending = with_stops(model, free[0][0][3], free[4][0][6])
    assert answers(ending, asked, max_tokens=12, batch=7) == [alone(ending, prompt, 12) for prompt in asked]


def test_the_active_adapter_speaks(llama):
    adapted = lora.prepare(llama, LoraSettings(dataset=("t",), precision="fp32"))
    for name, weight in adapted.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(0))
    asked = prompts()
    try:
        spoken = answers(adapted, asked, max_tokens=8)
        assert spoken == [alone(adapted, prompt, 8) for prompt in asked]
        with adapted.model.disable_adapter():
            assert answers(adapted, asked, max_tokens=8) != spoken
    finally:
        adapted.model.unload()


def test_half_precision_has_a_head_of_its_own_for_the_while(llama):
    asked = prompts()
    whole, half = (answers(llama, asked, max_tokens=1, precision=precision) for precision in ("fp32", "bf16"))
    assert sum(one == other for one, other in zip(whole, half, strict=True)) >= 5
    head = llama.causal_lm.get_output_embeddings()
    assert "forward" not in head.__dict__
    assert head.weight.dtype == torch.float32


def test_it_is_in_training_mode_again_and_attends_as_before(llama):
    llama.model.train()
    answers(llama, prompts(), max_tokens=2)
    assert llama.model.training
    assert llama.model.config._attn_implementation == attention.NAME


def test_the_generators_state_is_all_that_counts(llama):
    asked = prompts()
    torch.manual_seed(1)
    first = answers(llama, asked, temperature=1.0, batch=2)
    state = torch.get_rng_state()
    assert answers(llama, asked, temperature=1.0, batch=7) == first
    assert torch.equal(state, torch.get_rng_state())
    assert answers(llama, asked, temperature=1.0, seed=1) != first
    assert first[1] != first[-1]  # the same prompt twice, with chances of its own


def test_stop_words_and_lengths(llama):
    said = answers(llama, prompts(), temperature=1.5, max_tokens=5, batch=3)
    stopping = with_stops(llama, *range(0, 800, 3))
    for (free, ended), (ids, has_ended) in zip(
        said, answers(stopping, prompts(), temperature=1.5, max_tokens=5), strict=True
    ):
        assert not ended
        assert len(free) == 5
        assert ids == free[: len(ids)]
        assert has_ended == (ids[-1] in stopping.stops)
        assert not any(word in stopping.stops for word in ids[:-1])
        assert has_ended or len(ids) == 5


def test_it_says_how_far_it_is(llama):
    done = []
    answers(llama, prompts(), max_tokens=1, batch=3, advance=done.append)
    assert done == [3, 6, 7]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_the_model_gives_them_chance(temperature):
    logits = torch.tensor([[2.0, 0.0, -1.0, 1.0, -torch.inf]])
    expected = (logits[0] / temperature).softmax(-1)
    chances = 1 - torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    seen = choose(logits.expand(20_000, -1), chances, temperature).bincount(minlength=5) / 20_000
    # Five standard deviations of a share of 20,000 draws.
    assert ((seen - expected).abs() <= 5 * (expected * (1 - expected) / 20_000).sqrt()).all()


def test_the_ends_of_chance_choose_possible_tokens():
    logits = torch.tensor([[-torch.inf, 0.0, 0.3, -torch.inf]]).expand(2, -1)
    assert choose(logits, torch.tensor([2.0**-24, 1.0]), 1.0).tolist() == [1, 2]


@pytest.mark.filterwarnings("ignore")  # transformers says that fast kernels for Mamba are not here
def test_models_that_cannot_are_named(tmp_path, llama):
    mamba = tiny_model.loaded(families.write("mamba", tmp_path / "mamba"))
    with pytest.raises(ModelError, match="cannot draw answers"):
        answers(mamba, prompts())
    with pytest.raises(ModelError, match="a prompt has 512 tokens, the model reads at most 512"):
        answers(llama, [numpy.full(512, 5, numpy.int32)])


def test_an_answer_ends_where_the_context_does(llama):
    long = numpy.full(508, 5, numpy.int32)
    assert [len(ids) for ids, _ in answers(llama, [long, *prompts()[:1]], temperature=1.0)] == [4, 24]
