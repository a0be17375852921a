"""Settings of the methods that learn from what is better or worse: reward models, DPO, PPO and GRPO."""

import math
from dataclasses import dataclass
from typing import Literal

from medcli.core.errors import UsageError
from medcli.core.settings import left_out, setting
from medcli.core.tuner_settings import LoraSettings, refuse_without_effect

_DRAWN = 64  # beyond, a batch of answers gains little: × 1.35 from 32 to 64 in bf16 on two cores


@dataclass(frozen=True, kw_only=True)
class PairSettings(LoraSettings):
    """Adapters or the whole model, taught by pairs of a better and a worse answer.

    A tuner's usual rate is for words to be imitated; pairs want less, and one pass over them.
    """

    tuner: Literal["lora", "full"] = setting("lora", help="What learns: adapters, or all.")
    epochs: float = setting(1.0, help="Passes over the pairs.", minimum=0.0)
    neftune: float = left_out(0.0)
    init: Literal["default", "pissa"] = left_out("default")  # its base without adapters is not the model it began as
    continue_run: bool = left_out(False)  # without its adapter the model is not the one to stay close to

    def check_tuner(self) -> None:
        """Refuse what the chosen tuner does not have; raises UsageError."""
        refuse_without_effect(self, self.tuner, {"lora": LoraSettings})
        self.check_adapters()


@dataclass(frozen=True, kw_only=True)
class RewardSettings(PairSettings):
    """A model with a head of one number, which is to be higher for the better answer.

    Rates are those of TRL's reward examples. Centring by 0.01: Eisenstein et al. 2023, equation 2.
    """

    margin: float = setting(0.0, help="By how much the better answer's reward is to be higher.", minimum=0.0)
    centring: float = setting(0.01, help="Weight of the term that keeps rewards around zero; 0 = none.", minimum=0.0)
    learning_rate: float = setting(
        0.0, flag="lr", help="Peak learning rate; 0 = 1e-4, or 1e-5 with --tuner full.", minimum=0.0
    )
    modules_to_save: tuple[str, ...] = left_out(())  # always the head, nothing else
    sample_every: int = left_out(0)  # it does not speak

    def __post_init__(self) -> None:
        self.check_tuner()
        if not self.learning_rate:
            object.__setattr__(self, "learning_rate", 1e-4 if self.tuner == "lora" else 1e-5)


@dataclass(frozen=True, kw_only=True)
class DpoSettings(PairSettings):
    """Which preference loss, and how close the model stays to the one it began as.

    Whole models: the rate of TRL's DPOConfig; adapters ten times that.
    """

    loss: Literal["sigmoid", "ipo", "hinge", "simpo", "orpo", "kto"] = setting(
        "sigmoid", help="The preference loss; sigmoid is DPO itself. simpo and orpo need no reference model."
    )
    beta: float = setting(
        0.0, help="How close to stay to the reference model; 0 = the loss's own: 0.1, simpo 2.0.", minimum=0.0
    )
    label_smoothing: float = setting(0.0, help="Share of pairs that may be the wrong way round (sigmoid).", minimum=0.0)
    target_margin: float = setting(
        1.0, help="By how much the better answer's reward is to be higher (simpo).", minimum=0.0
    )
    learning_rate: float = setting(
        0.0, flag="lr", help="Peak learning rate; 0 = 1e-5, or 1e-6 with --tuner full.", minimum=0.0
    )

    def __post_init__(self) -> None:
        self.check_tuner()
        if not self.learning_rate:
            object.__setattr__(self, "learning_rate", 1e-5 if self.tuner == "lora" else 1e-6)
        if not self.beta:
            object.__setattr__(self, "beta", 2.0 if self.loss == "simpo" else 0.1)
        if not 0 <= self.label_smoothing < 0.5:
            raise UsageError(
                f"--label-smoothing {self.label_smoothing:g}: then the worse answers would be taught",
                hint="use a share below 0.5, such as 0.1",
            )
        if self.label_smoothing and self.loss != "sigmoid":
            raise UsageError(
                f"--label-smoothing is without effect with --loss {self.loss}", hint="leave it out, or --loss sigmoid"
            )

    @property
    def has_reference(self) -> bool:
        """Whether the loss compares with the model as it was before."""
        return self.loss not in ("simpo", "orpo")


@dataclass(frozen=True, kw_only=True)
class RolloutSettings(LoraSettings):
    """A policy of adapters that draws answers itself and learns from their rewards."""

    max_tokens: int = setting(
        256, help="Tokens of the longest answer; the prompt has the rest of --max-length.", minimum=1
    )
    temperature: float = setting(1.0, help="How varied the answers are.", minimum=0.01)
    kl: float = setting(0.05, help="Weight of the divergence from the model it began as.", minimum=0.0)
    clip: float = setting(0.2, help="How far a token's probability may move in one update, as a ratio.", minimum=0.0)
    epochs: float = setting(1.0, help="Passes over the prompts.", minimum=0.0)
    learning_rate: float = setting(1e-5, flag="lr", help="Peak learning rate.", minimum=0.0)
    schedule: Literal["cosine", "linear", "constant"] = setting(
        "constant", help="How the rate falls after the warm-up."
    )
    valid_limit: int = setting(64, help="Held-out prompts to measure the reward on; 0 = none.", minimum=0)
    sample_every: int = setting(5, help="Steps between sample answers, printed; 0 = none.", minimum=0)
    neftune: float = left_out(0.0)
    early_stop: int = left_out(0)
    best: bool = left_out(False)
    dropout: float = left_out(0.0)  # the probabilities of the same answer must not change by chance
    init: Literal["default", "pissa"] = left_out("default")
    continue_run: bool = left_out(False)
    modules_to_save: tuple[str, ...] = left_out(())  # the model's own modules are the reference's too
    devices: int = left_out(1)
    nodes: int = left_out(1)
    node_rank: int = left_out(0)
    main_address: str = left_out("")
    strategy: Literal["ddp", "fsdp2", "zero2", "zero3"] = left_out("ddp")

    @property
    def drawn_together(self) -> int:
        """Answers drawn at one time: more than are learnt from in one forward, for drawing keeps less of each."""
        return min(_DRAWN, 4 * self.batch)

    def check_rollouts(self) -> None:
        """Refuse adapters and lengths that cannot be; raises UsageError."""
        self.check_adapters()
        if self.devices * self.nodes > 1:  # a launcher's word
            raise UsageError("policies are trained in one process", hint="start it by itself, without a launcher")
        if self.max_tokens >= self.max_length:
            raise UsageError(
                f"--max-tokens {self.max_tokens} leaves no room for the prompt in --max-length {self.max_length}",
                hint="raise --max-length, or lower --max-tokens",
            )
        if "lm_head" in self.targets:
            raise UsageError("--targets lm_head: the head is shared with the reference model", hint="leave it out")


@dataclass(frozen=True, kw_only=True)
class PpoSettings(RolloutSettings):
    """Proximal policy optimisation (Schulman et al. 2017) with a learnt value of each token.

    Defaults of clip, value weight, gamma and lambda: Ouyang et al. 2022 and TRL's last PPOConfig.
    """

    reward: str = setting(help="What judges answers: a reward run, a folder, a hub id, or the address of a service.")
    rollouts: int = setting(64, help="Answers drawn for one step.", minimum=1)
    ppo_epochs: int = setting(2, help="Passes over the answers of a step.", minimum=1)
    kl: float = setting(
        0.05, help="Weight of the divergence from the reference; where it starts with --kl-target.", minimum=0.0
    )
    kl_target: float = setting(
        0.0, help="Adapt that weight towards this divergence, nat an answer; 0 = keep it.", minimum=0.0
    )
    kl_stop: float = setting(
        0.1, help="End a step's updates when the policy has moved so far, nat a token; 0 = never.", minimum=0.0
    )
    value_clip: float = setting(0.2, help="How far a value may move in one update; 0 = any.", minimum=0.0)
    value_weight: float = setting(0.1, help="Weight of the value loss.", minimum=0.0)
    value_learning_rate: float = setting(
        1e-3, flag="value_lr", help="Peak learning rate of the value head, which is new.", minimum=0.0
    )
    gamma: float = setting(1.0, help="Discount of later rewards.", minimum=0.0)
    gae_lambda: float = setting(0.95, help="Between one-step (0) and whole-answer (1) advantages.", minimum=0.0)
    reward_clip: float = setting(10.0, help="Rewards are cut to ± this; 0 = not.", minimum=0.0)
    missing_eos_penalty: float = setting(1.0, help="Taken from the reward of an answer that does not end.", minimum=0.0)
    entropy_bonus: float = setting(0.0, help="Weight of the entropy, which keeps answers varied.", minimum=0.0)
    log_every: int = left_out(0)  # every step has its line

    def __post_init__(self) -> None:
        self.check_rollouts()
        if self.precision == "fp16":
            raise UsageError("--precision fp16: small gradients would be lost", hint="use bf16, fp32 or auto")

    def steps_an_epoch(self, samples: int) -> int:
        """A step draws `rollouts` answers and learns from them."""
        return math.ceil(samples / self.rollouts)


@dataclass(frozen=True, kw_only=True)
class GrpoSettings(RolloutSettings):
    """Group relative policy optimisation (Shao et al. 2024): answers to one prompt are compared with each other.

    Loss and scaling of rewards are TRL's defaults: the token-level loss of DAPO (Yu et al. 2025), rewards divided by
    their deviation within a group. Each answer is learnt from once, by the model that gave it, so nothing is clipped.
    """

    reward: tuple[str, ...] = setting(
        help="What judges answers: exact, format, length, a file of Python, a reward run; NAME:0.5 weighs it."
    )
    group: int = setting(8, help="Answers to each prompt.", minimum=2)
    batch: int = setting(8, help="Answers in one forward; batch × accumulate is a multiple of --group.", minimum=1)
    kl: float = setting(0.0, help="Weight of the divergence from the model it began as.", minimum=0.0)
    clip: float = left_out(0.2)  # the ratio is 1 when an answer is learnt from once
    packing: bool = left_out(False)

    def __post_init__(self) -> None:
        self.check_rollouts()
        answers = self.batch * self.accumulate
        if answers % self.group:
            whole = math.lcm(self.group, self.accumulate) // self.accumulate
            upper = math.ceil(self.batch / whole) * whole
            fitting = f", or --group {answers}" if answers > 1 else ""
            raise UsageError(
                f"--batch {self.batch} x --accumulate {self.accumulate}: {answers} answers a step are no whole groups "
                f"of --group {self.group}",
                hint=f"try --batch {upper}{fitting}",
            )

    @property
    def prompts_a_step(self) -> int:
        """How many prompts are answered in one optimizer step."""
        return self.batch * self.accumulate // self.group

    def steps_an_epoch(self, samples: int) -> int:
        """A step answers `prompts_a_step` prompts; the last one of an epoch is filled up with its first prompts."""
        return math.ceil(samples / self.prompts_a_step)
