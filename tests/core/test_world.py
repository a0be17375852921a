"""Which process this is, as torchrun and Slurm say it."""

import pytest

from medcli.core import world as worlds
from medcli.core.errors import UsageError
from medcli.core.world import World


@pytest.fixture
def launcher(monkeypatch):
    """`launcher(RANK=0)` sets what a launcher tells; nothing else is set."""
    import os

    for name in list(os.environ):
        if name.startswith("SLURM_") or name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
            monkeypatch.delenv(name)

    def tell(**variables: object) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return tell


def test_without_a_launcher_there_is_one_process(launcher):
    assert worlds.current() == World(rank=0, local_rank=0, size=1, local_size=1)
    assert worlds.current().is_first


def test_torchrun(launcher):
    launcher(RANK=5, LOCAL_RANK=1, WORLD_SIZE=8, LOCAL_WORLD_SIZE=4)
    world = worlds.current()
    assert world == World(rank=5, local_rank=1, size=8, local_size=4)
    assert (world.nodes, world.is_first, world.is_first_here) == (2, False, False)


def test_slurm(launcher):
    step = {"SLURM_STEP_ID": 0, "SLURM_STEP_NUM_TASKS": 5, "SLURM_STEP_TASKS_PER_NODE": "2(x2),1"}
    launcher(SLURM_PROCID=4, SLURM_LOCALID=0, SLURM_NODEID=2, **step)
    assert worlds.current() == World(rank=4, local_rank=0, size=5, local_size=1)


def test_the_shell_of_a_batch_script_is_no_task(launcher):
    launcher(SLURM_PROCID=0, SLURM_LOCALID=0, SLURM_NTASKS=4, SLURM_JOB_ID=7)
    assert worlds.current().size == 1


def test_slurm_is_told_to_torch(launcher, monkeypatch):
    import os

    given = {"SLURM_STEP_ID": 0, "SLURM_NTASKS": 2, "SLURM_JOB_ID": 77, "SLURM_STEP_NODELIST": "gpu[03-05,9],login"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that it is taken away again
        monkeypatch.delenv(name)
    launcher(SLURM_PROCID=1, SLURM_LOCALID=1, **given)
    worlds.announce(worlds.current(), visible_devices=0)
    assert [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")] == [
        "1",
        "1",
        "2",
        "gpu03",
    ]
    assert 20000 <= int(os.environ["MASTER_PORT"]) < 40000


@pytest.mark.parametrize(("nodes", "first"), [("login", "login"), ("a1,b[2-3]", "a1"), ("gpu[03-05,9]-ib", "gpu03-ib")])
def test_the_first_machine_of_slurms_list(nodes, first):
    assert worlds.first_host(nodes) == first


@pytest.mark.parametrize(
    "given",
    [
        {"RANK": 0, "WORLD_SIZE": 2},
        {"RANK": 2, "LOCAL_RANK": 0, "WORLD_SIZE": 2},
        {"RANK": "one", "LOCAL_RANK": 0, "WORLD_SIZE": 2},
    ],
)
def test_what_makes_no_sense_is_one_message(launcher, given):
    launcher(**given)
    with pytest.raises(UsageError):
        worlds.current()
