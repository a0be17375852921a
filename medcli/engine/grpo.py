"""Group relative policy optimisation by TRL's GRPOTrainer: answers to one prompt are compared with each other.

Loss, advantages, reference and gradients are TRL's. Ours are what goes in and comes out: prompts are the ids that the
plan showed, answers are drawn as ppo draws them and end with any of the model's stop words, rewards are opened before
the run begins, and checkpoints, figures and Ctrl-C are those of every method.
"""

import contextlib
import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import fmean
from typing import Any

import numpy
import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer

from medcli.core.alignment_settings import GrpoSettings
from medcli.core.report import Report
from medcli.core.reward_terms import Judge, Term, checked
from medcli.core.run_folder import RunFolder
from medcli.core.score import score_of
from medcli.engine import lora, rollout
from medcli.engine.checkpointing import checkpointed
from medcli.engine.checkpoints import WholeCheckpoints
from medcli.engine.loaded import Loaded
from medcli.engine.pack import Prompts
from medcli.engine.train_arguments import arguments_of, precision_of
from medcli.engine.trainer import Outcome, carry_out

_SAME = 1e-6  # rewards that differ by less are equal
# What TRL calls a figure, and what every method's metrics.jsonl calls it.
_FIGURES = {
    "reward": "reward",
    "reward_std": "reward_spread",
    "kl": "kl",
    "entropy": "entropy",
    "completions/mean_length": "response_length",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """A judge, and how it was named and weighed."""

    term: Term
    judge: Judge


@dataclass(frozen=True, kw_only=True)
class Judged(Loaded):
    """A policy with adapters, and what its answers are judged by."""

    rewards: tuple[Reward, ...]

    def text(self, ids: Sequence[int]) -> str:
        """An answer as a person reads it, and as it is judged: without its stop word."""
        end = len(ids) - (bool(ids) and ids[-1] in self.stops)
        text: str = self.tokenizer.decode(ids[:end], skip_special_tokens=True)
        return text.rstrip("\ufffd").lstrip()


def prepare(loaded: Loaded, settings: GrpoSettings, rewards: Sequence[Reward]) -> Judged:
    """The model with adapters, the only thing that learns; without them it is its own reference."""
    return Judged(**vars(lora.prepare(loaded, settings)), rewards=tuple(rewards))


def train(
    judged: Judged, data: Prompts, valid: Prompts | None, settings: GrpoSettings, run: RunFolder, report: Report
) -> Outcome:
    """Train the policy from the run's last checkpoint on, and save it to `run.adapter` unless a person stopped the run.

    Raises DataError when a reward is no number, DeviceError when memory does not suffice, ServiceError when answers
    cannot be judged.
    """
    for reward in judged.rewards:
        if reward.term.is_file:
            report.note(f"{reward.term.name} is run to judge the answers")
    with contextlib.ExitStack() as stack:
        trainer = _Trainer(judged, data, valid, settings, run, report)
        outcome = carry_out(trainer, judged, valid, settings, run, report, stack, tokens=lambda: trainer.tokens)
    if outcome.is_saved_here:
        lora.save(judged, run.adapter)
    before = next((row["eval_reward"] for row in run.metrics() if "eval_reward" in row), None)
    return outcome if before is None else replace(outcome, facts={**outcome.facts, "eval_reward_before": before})


class _Trainer(WholeCheckpoints, GRPOTrainer):
    """TRL's trainer with our prompts, our way to draw answers, and our figures."""

    control: Any

    def __init__(
        self,
        judged: Judged,
        data: Prompts,
        valid: Prompts | None,
        settings: GrpoSettings,
        run: RunFolder,
        report: Report,
    ) -> None:
        self._judged, self._data, self._valid = judged, data, valid
        self._settings, self._report = settings, report
        self._precision = precision_of(settings, judged.device)
        self.keep, self.tokens, self._warned = settings.keep_checkpoints, 0, False
        self._ended, self._equal = list[bool](), list[bool]()
        super().__init__(
            model=judged.model,
            reward_funcs=[self._judging(reward) for reward in judged.rewards],
            args=_arguments(judged, settings, run, len(data), valid is not None),
            train_dataset=_numbers(data),
            eval_dataset=None if valid is None else _numbers(valid),
            processing_class=_with_pad(judged),
        )
        # Told earlier, TRL would copy the adapter as a reference; ours is new, so the model without it is one.
        self.beta = settings.kl
        self.eos_token_ids = list(judged.stops)
        for weight in judged.model.parameters():
            if weight.requires_grad:  # over quantised weights it makes adapters bfloat16, which loses small updates
                weight.data = weight.data.float()

    def _send_telemetry(self) -> None:
        """Nobody hears of a run."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The run has a card of its own."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if (make := lora.optimizer_of(self._settings)) is not None:
            kind, arguments = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = make(self.model, kind, arguments)
        made: torch.optim.Optimizer = super().create_optimizer(model)
        return made

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        return InGroups(len(self._data), self._settings, lambda: int(self.state.epoch or 0))

    def _tokenize_prompts(self, prompts: list[int]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._data[number].ids.tolist() for number in prompts], None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        """Sampled answers, which follow from the seed and the step alone."""
        drawn = self._drawn([numpy.array(ids, numpy.int32) for ids in prompt_ids], self._settings.temperature)
        self.tokens += sum(map(len, prompt_ids)) + sum(len(one.ids) for one in drawn)
        self._ended += [one.ended for one in drawn]
        return [one.ids for one in drawn], None

    def _calculate_rewards(self, *arguments: Any) -> torch.Tensor:
        """TRL's; and counts groups of equal rewards, among which it does not see those of fractions, for rounding."""
        rewards: torch.Tensor = super()._calculate_rewards(*arguments)
        groups = (rewards @ self.reward_weights.to(rewards.device)).view(-1, self._settings.group)
        self._equal += (groups.amax(1) - groups.amin(1) < _SAME).tolist()
        return rewards

    def _drawn(self, prompts: Sequence[numpy.ndarray], temperature: float) -> list[rollout.Drawn]:
        seed = numpy.random.SeedSequence([self._settings.seed, self.state.global_step]).generate_state(1)[0]
        return rollout.draw(
            self._judged,
            prompts,
            max_tokens=self._settings.max_tokens,
            temperature=temperature,
            generator=torch.Generator(self._judged.device).manual_seed(int(seed)),
            batch=self._settings.drawn_together,
            precision=self._precision,
            advance=lambda done: None,
        )

    def _judging(self, reward: Reward) -> Callable[..., list[float]]:
        def judge(prompts: list[int], completion_ids: list[list[int]], **_: Any) -> list[float]:
            asked = [self._data.asked[number] for number in prompts]
            answers = [self._judged.text(ids) for ids in completion_ids]
            return checked(reward.judge(asked, answers), len(answers), f"--reward {reward.term.name}")

        judge.__name__ = reward.term.label
        return judge

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **keywords: Any) -> torch.Tensor:
        """TRL's loss; layers are told here what to keep, for elsewhere it would switch them off and on as a whole."""
        kept = checkpointed(self._judged) if self._settings.checkpointing else contextlib.nullcontext()
        with kept:
            loss: torch.Tensor = super().compute_loss(model, inputs, *arguments, **keywords)
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The mean reward of the likeliest answers to held-out prompts, with its 95 % interval."""
        assert self._valid is not None  # nobody asks for it otherwise
        drawn = self._drawn([example.ids for example in map(self._valid.__getitem__, range(len(self._valid)))], 0.0)
        answers = [self._judged.text(one.ids) for one in drawn]
        figures, totals = {}, numpy.zeros(len(answers))
        for reward in self._judged.rewards:
            values = checked(reward.judge(self._valid.asked, answers), len(answers), f"--reward {reward.term.name}")
            figures[f"eval_reward_{reward.term.label}"] = fmean(values)
            totals += reward.term.weight * numpy.array(values)
        score = score_of("reward", totals.tolist())
        figures |= {"eval_reward": score.value, "eval_reward_low": score.low, "eval_reward_high": score.high}
        figures["eval_response_length"] = fmean(len(one.ids) for one in drawn)
        Trainer.log(self, figures)  # TRL's would add the figures of the training
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL adds the means of its figures to `logs`: those that say something, by our names."""
        found = self._metrics["train"]
        names = _FIGURES | {
            f"rewards/{reward.term.label}/mean": f"reward_{reward.term.label}" for reward in self._judged.rewards
        }
        ours = {name: found[theirs] for theirs, name in names.items() if theirs in found}
        if self._ended:
            ours |= {"ended": [fmean(self._ended)], "equal_groups": [fmean(self._equal)]}
            self._ended, self._equal = [], []
        self._metrics["train"] = defaultdict(list, ours)
        self._say_once_when_equal(ours)
        super().log(logs, start_time)

    def _say_once_when_equal(self, figures: dict[str, list[float]]) -> None:
        equal = figures.get("equal_groups", [])
        if equal == [1.0] and not self._warned:
            self._warned = True
            self._report.note(
                f"step {self.state.global_step}: all answers to a prompt were worth the same, so nothing was learnt; "
                "a higher --temperature or --group, or a reward that tells more apart, helps"
            )


class InGroups(Sampler[int]):
    """The order of an epoch, as TRL wants it: each prompt `group` times, a step's prompts again for each forward.

    TRL's own begins each resumed epoch with the order of the first one, and drops the prompts that fill no step; here
    the last step is filled up with the epoch's first prompts.
    """

    def __init__(self, count: int, settings: GrpoSettings, epoch: Callable[[], int]) -> None:
        self._count, self._settings, self._epoch = count, settings, epoch

    def __len__(self) -> int:
        step = self._settings.prompts_a_step * self._settings.group * self._settings.accumulate
        return self._settings.steps_an_epoch(self._count) * step

    def __iter__(self) -> Iterator[int]:
        settings, size = self._settings, self._settings.prompts_a_step
        order = list(range(self._count))
        if settings.mix == "interleave":
            order = numpy.random.default_rng([settings.seed, self._epoch()]).permutation(self._count).tolist()
        order = list(islice(cycle(order), math.ceil(self._count / size) * size))
        for start in range(0, len(order), size):
            group = [number for number in order[start : start + size] for _ in range(settings.group)]
            yield from group * settings.accumulate


def _arguments(judged: Judged, settings: GrpoSettings, run: RunFolder, samples: int, with_valid: bool) -> Any:
    return arguments_of(
        settings,
        run,
        samples,
        with_valid,
        judged.device,
        kind=GRPOConfig,
        eval_on_start=with_valid and run.last_checkpoint() is None,
        num_generations=settings.group,
        num_generations_eval=1,
        max_completion_length=settings.max_tokens,
        temperature=settings.temperature,
        reward_weights=[reward.term.weight for reward in judged.rewards],
        activation_checkpointing=False,  # TRL's default is yes; `checkpointed` does it
        disable_dropout=True,  # the probabilities of the same answer must not change by chance
    )


def _numbers(data: Prompts) -> Dataset:
    """What TRL takes for prompts: their numbers, by which ids and references are found."""
    return Dataset.from_dict({"prompt": list(range(len(data)))})


def _with_pad(judged: Judged) -> Any:
    """The tokenizer for TRL, which lays a pad token on it; the one that is saved stays as it is."""
    tokenizer = copy.deepcopy(judged.tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(judged.stops[0])
    return tokenizer
