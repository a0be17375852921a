"""flags > MED_* > med.toml > recipe > defaults, with the origin of every value."""

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcli.core.errors import UsageError
from medcli.core.settings import Layers, check_environment, check_sections, convert, resolve, setting, variables_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    rate: float = setting(1.0, help="a rate", flag="lr", minimum=0.0)
    steps: int = setting(5, help="steps", minimum=1)
    kind: Literal["cosine", "linear"] = setting("cosine", help="kind")
    fast: bool = setting(True, help="fast")
    names: tuple[str, ...] = setting((), help="names")
    limit: int | None = setting(None, help="limit")


def settle(**layers):
    return resolve(Knobs, "train.lora", Layers(**layers))


def test_the_strongest_layer_wins_and_is_named():
    layers = {
        "recipe": {"lr": 2, "steps": 2, "kind": "linear", "fast": False},
        "project": {"train": {"lr": 3, "steps": 3, "lora": {"lr": 4}}},
        "environment": {"MED_TRAIN_LORA_LR": "5"},
        "flags": {"rate": "6"},
    }
    found = settle(**layers)
    assert found.values == Knobs(rate=6.0, steps=3, kind="linear", fast=False)
    assert found.origins == {
        "rate": "flag", "steps": "med.toml", "kind": "recipe", "fast": "recipe", "names": "default", "limit": "default",
    }  # fmt: skip
    del layers["flags"]
    assert settle(**layers).values.rate == 5.0
    del layers["environment"]
    assert settle(**layers).values.rate == 4.0
    del layers["project"]
    assert settle(**layers).values.rate == 2.0


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({"project": {"train": {"lora": {"lrr": 1}}}}, "no setting 'lrr'"),
        ({"recipe": {"stps": 1}}, "no setting 'stps'"),
        ({"environment": {"MED_TRAIN_LORA_STEPS": "many"}}, "MED_TRAIN_LORA_STEPS: 'many' is not a whole number"),
        ({"flags": {"steps": "0"}}, "--steps: 0 is too small"),
        ({"flags": {"kind": "cosin"}}, "'cosin' is not a choice"),
        ({"flags": {"fast": "perhaps"}}, "neither yes nor no"),
        ({"project": {"train": {"lora": {"steps": 1.5}}}}, "not a whole number"),
        ({"project": {"train": {"lora": {"steps": True}}}}, "not a number"),
        ({"project": {"train": 3}}, "must be a table"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(layers, said):
    with pytest.raises(UsageError, match=said):
        settle(**layers)


def test_unknown_variables_and_tables_are_errors():
    with pytest.raises(UsageError) as error:
        check_environment(["MED_TRAIN_LORA_RATE"], variables_of(Knobs, "train.lora"))
    assert "MED_TRAIN_LORA" in error.value.hint
    with pytest.raises(UsageError, match=r"\[tran\.lora\]|\[tran\]"):
        check_sections({"tran": {"lora": {"lr": 1}}}, ["train.lora", "eval"])
    with pytest.raises(UsageError, match="must be a table|belongs to no command"):
        check_sections({"lr": 3}, ["train.lora"])
    check_sections({"train": {"lr": 3, "lora": {"lr": 2}}}, ["train.lora"])


@given(st.integers(min_value=-(10**12), max_value=10**12), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_as_text(whole, real):
    assert convert(str(whole), int, "x") == whole
    assert convert(str(real), float, "x") == real


def test_lists_are_split_at_commas():
    assert settle(flags={"names": "a, b,,c"}).values.names == ("a", "b", "c")
    assert settle(project={"train": {"names": ["a", "b"]}}).values.names == ("a", "b")
