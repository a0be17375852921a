"""The settings that every way of training shares; a method's own class adds to them."""

import math
from dataclasses import dataclass
from typing import Literal

from medcli.core.settings import setting

# How a help page puts them; what is in no group is a method's own and comes first.
GROUPS = {
    "Data": ("dataset", "replay", "mix", "allow_leak", "max_length", "template"),
    "Model and run": ("model", "trust_remote_code", "run", "seed"),
    "Steps": (
        *("epochs", "max_steps", "batch", "accumulate", "learning_rate", "schedule", "warmup"),
        *("weight_decay", "max_grad_norm", "neftune"),
    ),
    "Memory and speed": ("precision", "packing", "checkpointing"),
    "Validation, checkpoints, logs": (
        *("valid_limit", "eval_every", "early_stop", "best", "save_every", "keep_checkpoints"),
        *("sample_every", "log_every", "track"),
    ),
    "Machines": ("device", "devices", "nodes", "node_rank", "main_address", "strategy"),
}


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What to train, on what, for how long, and how fast."""

    dataset: tuple[str, ...] = setting(
        help="Data sets or raw files, with commas between; NAME:0.3 takes a share of one, NAME:5000 so many records."
    )
    replay: tuple[str, ...] = setting((), help="Sets against forgetting: NAME:0.1 makes up a tenth of the whole.")
    mix: Literal["interleave", "concatenate"] = setting(
        "interleave", help="All records shuffled together, or one set after the other."
    )
    allow_leak: bool = setting(False, help="Train even on what exams or test splits of other sets ask.")
    model: str = setting("med-tiny", help="Base model: a hub id, a folder, a run, or med-tiny.")
    trust_remote_code: bool = setting(False, help="Run the Python files of the model's folder. Read them first.")
    run: str = setting("", help="Name of the run; one is made up from method and data set.")
    template: str = setting("", help="Chat template; the model's own when not given.")
    epochs: float = setting(3.0, help="Passes over the data.", minimum=0.0)
    max_steps: int = setting(0, help="Stop after this many steps; 0 = as many as the epochs take.", minimum=0)
    batch: int = setting(8, help="Samples in one forward.", minimum=1)
    accumulate: int = setting(1, help="Forwards in one optimizer step.", minimum=1)
    learning_rate: float = setting(2e-4, flag="lr", help="Peak learning rate.", minimum=0.0)
    schedule: Literal["cosine", "linear", "constant"] = setting("cosine", help="How the rate falls after the warm-up.")
    warmup: float = setting(0.03, help="Share of the steps in which the rate rises.", minimum=0.0)
    weight_decay: float = setting(0.0, help="Decoupled weight decay.", minimum=0.0)
    max_grad_norm: float = setting(1.0, help="Gradients are scaled down to this norm.", minimum=0.0)
    max_length: int = setting(1024, help="Tokens of the longest sample; oldest turns are dropped first.", minimum=8)
    neftune: float = setting(0.0, help="Noise on the embeddings (NEFTune's alpha); 5 is usual, 0 = none.", minimum=0.0)
    checkpointing: bool = setting(False, help="Compute activations again in the backward: less memory, a third slower.")
    packing: bool = setting(True, help="Rows without padding, each document attended alone.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting("auto", help="auto is bf16 where the hardware has it.")
    valid_limit: int = setting(200, help="Samples of the validation split to measure the loss on; 0 = none.", minimum=0)
    eval_every: int = setting(0, help="Steps between validations; 0 = one an epoch.", minimum=0)
    early_stop: int = setting(0, help="Stop after so many validations without a lower loss; 0 = never.", minimum=0)
    best: bool = setting(False, help="End with the weights of the lowest validation loss, not with the last.")
    sample_every: int = setting(0, help="Steps between answers to fixed questions, printed; 0 = none.", minimum=0)
    log_every: int = setting(0, help="Steps between lines of metrics.jsonl; 0 = about 500 lines a run.", minimum=0)
    track: tuple[str, ...] = setting((), help="Trackers beside metrics.jsonl: tensorboard, wandb, swanlab, mlflow.")
    save_every: int = setting(0, help="Steps between checkpoints; 0 = one an epoch.", minimum=0)
    keep_checkpoints: int = setting(2, help="Checkpoints to keep.", minimum=1)
    seed: int = setting(42, help="Seed of data order, dropout and new weights.", minimum=0)
    devices: int = setting(1, help="Processes on this machine, one a GPU (or CPU).", minimum=1)
    nodes: int = setting(1, help="Machines that train together; run the same command on each.", minimum=1)
    node_rank: int = setting(0, help="Which of the machines this is, from 0.", minimum=0)
    main_address: str = setting("", help="Where the machines meet: host:port of machine 0.")
    strategy: Literal["ddp", "fsdp2", "zero2", "zero3"] = setting(
        "ddp", help="How processes share the work: copies, or sharded weights (FSDP2; ZeRO by DeepSpeed)."
    )
    device: str = setting("auto", help="auto, cpu, cuda, cuda:1, …")

    def steps_an_epoch(self, samples: int) -> int:
        """Optimizer steps in which all processes together go through so many samples once."""
        forwards = math.ceil(samples / (self.batch * self.devices * self.nodes))
        return max(1, math.ceil(forwards / self.accumulate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """What a method wants of the loader: the base in so many bits, the last adapter still learning.

    `prefix` are the virtual tokens that the method puts before every text; the context has as many fewer for the text.
    """

    quant: str = "none"
    trainable: bool = False
    prefix: int = 0
