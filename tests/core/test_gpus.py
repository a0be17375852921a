"""Cards by name and by size."""

import pytest

from medcli.core import gpus
from medcli.core.errors import UnknownNameError


@pytest.mark.parametrize("wanted", ["RTX 4090", "rtx4090", "NVIDIA GeForce RTX 4090"])
def test_a_card_is_known_however_it_is_spelt(wanted):
    card = gpus.card_of(wanted)
    assert (card.name, card.memory, card.precision) == ("RTX 4090", 24, "bf16")
    assert card.usable == 22.5


@pytest.mark.parametrize("wanted", ["24GB", "24 GiB", "24g"])
def test_a_size_is_a_card_of_which_nothing_else_is_known(wanted):
    card = gpus.card_of(wanted)
    assert (card.memory, card.tflops, card.precision) == (24, {}, "bf16")


def test_old_cards_have_no_bf16():
    assert {name for name, card in gpus.cards().items() if card.precision == "fp32"} == {"T4", "V100-16", "V100-32"}


def test_an_unknown_card_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as error:
        gpus.card_of("RTX 4099")
    assert "did you mean 'RTX 4090'" in error.value.hint
    assert "24GB" in error.value.hint


def test_every_card_says_where_its_figures_come_from():
    for card in gpus.cards().values():
        assert card.source
        assert card.tflops["fp16"] > card.tflops["fp32"] > 0
        assert 300 <= card.bandwidth <= 10_000
