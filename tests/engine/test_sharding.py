"""The launch files, and whole tensors for saving from sharded ones."""

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from medcli.engine import sharding


@pytest.fixture
def alone(tmp_path):
    """A group of one process, for what needs a group."""
    distributed.init_process_group(
        "gloo", store=distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP"), ("zero2", "DEEPSPEED"), ("zero3", "DEEPSPEED")],
)
def test_accelerate_reads_the_launch_files(strategy, kind):
    config = load_config_from_file(str(sharding.launch_file(strategy)))
    assert str(config.distributed_type.value) == kind
    if kind == "FSDP":
        assert config.fsdp_config["fsdp_version"] == 2
    if kind == "DEEPSPEED":
        assert f"zero{config.deepspeed_config['zero_stage']}" == strategy


def test_sharded_weights_are_gathered_for_saving(alone):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mesh = distributed.init_device_mesh("cpu", (1,))
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(weight, DTensor) for weight in model.parameters())
    sharding.gather(model, "fsdp2")
    after = dict(model.named_parameters())
    assert not any(isinstance(weight, DTensor) for weight in after.values())
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not after["0.weight"].requires_grad
