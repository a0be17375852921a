import pytest

from medcli.core.base_models import base_models, largest_for, quant_for
from medcli.core.nvidia import NvidiaCard
from medcli.steps import hardware
from medcli.steps.first_look import Look
from medcli.steps.hardware import Hardware
from medcli.steps.rough_plan import model_of, rough_plan


def look(characters):
    return Look(name="few", importer="alpaca", kind="conversation", characters=characters)


def with_card(name):
    card = NvidiaCard(index=0, name=name, total=24.0, free=23.0, capability="8.9")
    return Hardware(gpus=(card,), cores=8, memory=64.0, free_memory=60.0, free_disk=500.0)


def test_hours_by_the_card_s_data_sheet():
    model = base_models()["Qwen/Qwen3-0.6B"]
    plan = rough_plan(model, "lora", "none", "", look(1_500_000), with_card("NVIDIA GeForce RTX 4090"))
    operations = 4 * 0.6e9 * 1_000_000 * 3  # epochs
    assert plan.hours == pytest.approx((operations / (0.5 * 165.2e12) / 3600, operations / (0.2 * 165.2e12) / 3600))
    assert plan.available == 23.0
    assert plan.fits


def test_no_hours_where_the_speed_or_the_amount_is_unknown():
    model = base_models()["Qwen/Qwen3-0.6B"]
    assert rough_plan(model, "lora", "none", "", look(1000), with_card("Moore Threads S80")).hours is None
    assert rough_plan(model, "lora", "none", "", look(None), with_card("RTX 4090")).hours is None


def test_a_recipe_says_how_many_epochs():
    model = base_models()["Qwen/Qwen3-0.6B"]
    plans = [
        rough_plan(model, "lora", "none", recipe, look(1000), with_card("RTX 4090")) for recipe in ("", "carellama")
    ]
    assert plans[1].hours[0] == pytest.approx(plans[0].hours[0] * 2 / 3)


def test_this_machine(tmp_path):
    found = hardware.look(tmp_path / "not" / "there" / "yet")
    assert found.cores >= 1
    assert 0 < found.free_memory <= found.memory
    assert found.free_disk > 0
    assert hardware.processor_speed() > 1e8


@pytest.mark.parametrize(
    ("gib", "largest", "quant"),
    [(0.5, "Qwen/Qwen2.5-0.5B-Instruct", None), (8, "Qwen/Qwen3-1.7B", "none"), (22.5, "Qwen/Qwen3-8B", "none")],
)
def test_the_base_model_that_fits(gib, largest, quant):
    assert largest_for(gib).name == largest
    assert quant_for(largest_for(gib), gib) == quant


def test_few_bits_make_a_large_model_fit():
    model = base_models()["Qwen/Qwen3-8B"]
    assert [quant_for(model, gib) for gib in (30, 14, 9, 4)] == ["none", "8bit", "4bit", None]
    assert model.memory("full") > 100


def test_all_weights_take_half_as_many_operations_again():
    model = base_models()["Qwen/Qwen3-8B"]
    assert model.operations(3000, whole=True) == pytest.approx(6 * 8.2e9 * 2000)
    assert model.operations(3000) == pytest.approx(4 * 8.2e9 * 2000)


def test_models_are_listed_from_small_to_large():
    sizes = [model.billions for model in base_models().values()]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("reference", "billions"),
    [
        ("Qwen/Qwen3-8B", 8.2),
        ("someone/medical-13b-chat", 13.0),
        ("someone/tiny-125M", 0.125),
        ("med-tiny", 0.01),
        ("someone/large", None),
        ("", None),
    ],
)
def test_how_large_a_model_is_by_its_name(reference, billions):
    found = model_of(reference)
    assert (found.billions if found else None) == billions


def test_how_large_a_model_is_by_its_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(2000))
    assert model_of(str(tmp_path)).billions == pytest.approx(1e-6)
