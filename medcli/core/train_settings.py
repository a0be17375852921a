"""The settings that every way of training shares; a method's own class adds to them."""

from dataclasses import dataclass
from typing import Literal

from medcli.core.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
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
    packing: bool = setting(True, help="Rows without padding, each document attended alone.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting("auto", help="auto is bf16 where the hardware has it.")
    valid_limit: int = setting(200, help="Samples of the validation split to measure the loss on; 0 = none.", minimum=0)
    save_every: int = setting(0, help="Steps between checkpoints; 0 = one an epoch.", minimum=0)
    keep_checkpoints: int = setting(2, help="Checkpoints to keep.", minimum=1)
    seed: int = setting(42, help="Seed of data order, dropout and new weights.", minimum=0)
    device: str = setting("auto", help="auto, cpu, cuda, cuda:1, …")
