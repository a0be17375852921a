"""Proximal policy optimisation: draw answers, have them judged, learn from them, over and over.

Answers cost most of the time, so they are drawn in batches and learnt from several times. Their probabilities before
the first update are computed in the very rows that are learnt from, so that the ratio of new to old begins at exactly 1
in every precision. All random numbers of a step follow from the seed and the step: what a checkpoint needs are weights,
the optimizer's state, and two numbers.
"""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from medcli.core.alignment_settings import PpoSettings
from medcli.core.atomic import writing
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.score import score_of
from medcli.engine import advantages as arithmetic
from medcli.engine import checkpoints, lora
from medcli.engine import device as devices
from medcli.engine.actor import Actor, Answered
from medcli.engine.checkpointing import checkpointed
from medcli.engine.experience import Rollout, gather, minibatches_of
from medcli.engine.pack import Prompts
from medcli.engine.samples import lines_until
from medcli.engine.tracking import tracked
from medcli.engine.train_arguments import steps_of
from medcli.engine.trainer import Outcome
from medcli.engine.watch import Watch, interrupts

_ADAPTER, _VALUE_HEAD, _OPTIMIZER, _STATE = (
    "adapter.safetensors",
    "value_head.safetensors",
    "optimizer.pt",
    "trainer_state.json",
)
# What the random numbers of a step are for.
_DRAWING, _SHUFFLING, _ORDER = range(3)


def train(
    actor: Actor, data: Prompts, valid: Prompts | None, settings: PpoSettings, run: RunFolder, report: Report
) -> Outcome:
    """Train the policy from the run's last checkpoint on, and save it to `run.adapter` unless a person stopped the run.

    Raises DeviceError when memory does not suffice, ModelError when a figure is no number any more, ServiceError when
    answers cannot be judged.
    """
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        last = run.last_checkpoint()
        step = json.loads((last / _STATE).read_text("utf-8"))["global_step"] if last else 0
        run.rewind(step if last else -1)
        trackers = stack.enter_context(tracked(settings, run, report, step))
        watch = Watch(run, report, actor.device, lambda: loop.tokens, trackers)
        loop = Loop(actor, data, valid, settings, run, report, watch)
        stack.enter_context(interrupts(watch))
        stack.enter_context(devices.out_of_memory_said(actor.device, _smaller(settings)))
        if last:
            loop.restore(last)
        loop.go()
    outcome = Outcome(
        steps=loop.step,
        total=loop.total,
        interrupted_by=watch.asked_by if loop.step < loop.total else 0,
        seconds=time.monotonic() - started,
        tokens=loop.tokens,
        figures=watch.figures,
        facts=_before(run),
    )
    if outcome.is_saved_here:
        lora.save(actor, run.adapter)
    return outcome


class Loop:
    """The state of a run: `step` steps are done, the divergence weighs `kl_weight`."""

    def __init__(
        self,
        actor: Actor,
        data: Prompts,
        valid: Prompts | None,
        settings: PpoSettings,
        run: RunFolder,
        report: Report,
        watch: Watch,
    ) -> None:
        self._actor, self._data, self._valid, self._settings = actor, data, valid, settings
        self._run, self._report, self._watch = run, report, watch
        self.total, self._epoch = steps_of(settings, len(data)), settings.steps_an_epoch(len(data))
        self.step, self.tokens, self.kl_weight = 0, 0, settings.kl
        self._policy = {name: weight for name, weight in actor.model.named_parameters() if weight.requires_grad}
        self._optimizer = self._new_optimizer()

    def go(self) -> None:
        """Do the steps that are left; after a Ctrl-C only the one that is under way."""
        self._report.note(f"rewards: {self._actor.judge}")
        self._report.stage("training", total=self.total, unit="steps")
        with writing(self._run.samples_file) as file:
            file.writelines(lines_until(self._run, self.step) if self.step else [])
        if self.step == 0 and self._valid:
            self._watch.take(0, self.validate(), trained=False)
        saved = self.step
        while self.step < self.total and not self._watch.asked_by:
            figures = self._do_step()
            at_end, stopped = self.step == self.total, bool(self._watch.asked_by)
            if self._valid and not (stopped and not at_end) and self._is_due(self._settings.eval_every):
                figures |= self.validate()
            self._watch.take(self.step, figures, trained=True)
            self._report.advance(self.step)
            if stopped or self._is_due(self._settings.save_every):
                saved = self._save()
        if saved < self.step:
            self._save()

    def _is_due(self, every: int) -> bool:
        """Whether it is time for what is done every so many steps (0 = an epoch), and at the end."""
        return self.step % (every or self._epoch) == 0 or self.step == self.total

    def _do_step(self) -> dict[str, float]:
        settings = self._settings
        rate = rate_at(self.step, self.total, settings)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["times"]
        devices.seed_all(self._seed(_DRAWING))
        rollout = self._gather(self._data, self._prompts(), settings.temperature)
        figures = {**rollout.figures(), "kl_weight": self.kl_weight, "learning_rate": rate}
        figures |= self.learn(rollout)
        self.kl_weight = arithmetic.adapted(self.kl_weight, rollout.kl, settings.kl_target)
        self.tokens += sum(len(one.example.ids) for one in rollout.answered)
        self.step += 1
        if settings.sample_every and (self.step % settings.sample_every == 0 or self.step in (1, self.total)):
            self._show(rollout.answered[0], float(rollout.scores[0]))
        return figures

    def _gather(self, data: Prompts, numbers: Sequence[int], temperature: float) -> Rollout:
        seed = self._seed(_DRAWING)
        return gather(self._actor, data, numbers, self._settings, temperature=temperature, seed=seed)

    def _prompts(self) -> list[int]:
        """The next prompts of the step: every epoch goes through all of them, in an order of its own."""
        count, size = len(self._data), self._settings.rollouts
        places = range(self.step * size, (self.step + 1) * size)
        orders = {epoch: self._order(epoch) for epoch in {place // count for place in places}}
        return [int(orders[place // count][place % count]) for place in places]

    def _order(self, epoch: int) -> numpy.ndarray:
        if self._settings.mix == "concatenate":
            return numpy.arange(len(self._data))
        return numpy.random.default_rng([self._settings.seed, _ORDER, epoch]).permutation(len(self._data))

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Several passes over the answers; ends early when the policy has moved too far from the one that drew them."""
        settings, mask = self._settings, rollout.mask
        ended = torch.tensor([one.ended for one in rollout.answered], device=mask.device)
        rewards = arithmetic.judged(
            rollout.scores, ended, penalty=settings.missing_eos_penalty, clip=settings.reward_clip
        )
        if self.step == 0:
            rollout = self._expecting(rollout, float(rewards.mean()))
        each = arithmetic.token_rewards(rewards, arithmetic.k1(rollout.old, rollout.reference), mask, self.kl_weight)
        gains = arithmetic.advantages(each, rollout.values, mask, gamma=settings.gamma, gae_lambda=settings.gae_lambda)
        goal = _Goal(gains=arithmetic.whitened(gains, mask), returns=gains + rollout.values)
        minibatches = minibatches_of([one.example for one in rollout.answered], settings.batch, settings.accumulate)
        done: list[dict[str, float]] = []
        shuffle = numpy.random.default_rng(self._seed(_SHUFFLING))
        with self._recomputed():
            for _ in range(settings.ppo_epochs):
                for number in shuffle.permutation(len(minibatches)):
                    done.append(self._update(minibatches[number], rollout, goal))
                    if settings.kl_stop and done[-1]["policy_kl"] > settings.kl_stop:
                        return _means(done)
        return _means(done)

    @torch.no_grad()
    def _expecting(self, rollout: Rollout, reward: float) -> Rollout:
        """Let the values begin at what the first answers brought.

        From zero the last tokens of an answer would look better than all before them until the head has learnt it: an
        advantage of theirs is discounted by less (lambda).
        """
        self._actor.value_head.bias.fill_(reward)
        return replace(rollout, values=rollout.values + reward * rollout.mask)

    def _update(self, rows: Sequence[list[int]], rollout: Rollout, goal: "_Goal") -> dict[str, float]:
        """One optimizer step, unless the policy has already moved too far; the mean figures of its tokens."""
        settings = self._settings
        tokens = int(rollout.mask[[number for row in rows for number in row]].sum())
        sums: dict[str, Tensor] = {}
        for row in rows:
            mask = rollout.mask[row]
            old, values = rollout.old[row][mask], rollout.values[row][mask]
            now = self._actor.read(
                [rollout.answered[number].example for number in row],
                temperature=settings.temperature,
                learns_entropy=settings.entropy_bonus > 0,
            )
            new = now.log_probabilities
            policy = arithmetic.policy_loss(new, old, goal.gains[row][mask], settings.clip).sum()
            value = arithmetic.value_loss(now.values, values, goal.returns[row][mask], settings.value_clip).sum()
            loss = policy + settings.value_weight * value - settings.entropy_bonus * now.entropies.sum()
            (loss / tokens).backward()  # type: ignore[no-untyped-call]
            figures = {
                "policy_loss": policy,
                "value_loss": value,
                "clip_fraction": arithmetic.clipped(new, old, settings.clip).sum(),
                "policy_kl": arithmetic.k3(old, new).sum(),
            }
            sums = {name: sums.get(name, 0.0) + figure.detach() for name, figure in figures.items()}
        means = {name: float(figure) / tokens for name, figure in sums.items()}
        if not settings.kl_stop or means["policy_kl"] <= settings.kl_stop:
            if settings.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(self._learning, settings.max_grad_norm)
            self._optimizer.step()
        self._optimizer.zero_grad()
        return means

    @property
    def _learning(self) -> list[Tensor]:
        return [weight for group in self._optimizer.param_groups for weight in group["params"]]

    @contextlib.contextmanager
    def _recomputed(self) -> Iterator[None]:
        """With --checkpointing: layers do so in training mode only, but what is in them must not drop anything."""
        if not self._settings.checkpointing:
            yield
            return
        layers = [part for part in self._actor.causal_lm.modules() if isinstance(part, GradientCheckpointingLayer)]
        with checkpointed(self._actor):
            for layer in layers:
                layer.training = True
            try:
                yield
            finally:
                for layer in layers:
                    layer.training = False

    def validate(self) -> dict[str, float]:
        """The reward of the likeliest answers to the held-out prompts, with its 95 % interval, and their divergence."""
        assert self._valid is not None
        rollout = self._gather(self._valid, range(len(self._valid)), 0.0)
        score = score_of("reward", rollout.scores.tolist())
        self._report.note(
            f"step {self.step}: held-out reward {score.value:.3f} ({score.low:.3f} to {score.high:.3f}), "
            f"KL {rollout.kl:.3f}, {len(self._valid)} prompts"
        )
        return {
            "eval_reward": score.value,
            "eval_reward_low": score.low,
            "eval_reward_high": score.high,
            "eval_kl": rollout.kl,
        }

    def _show(self, one: Answered, score: float) -> None:
        question = " ".join(one.asked.messages[-1].content.split())
        self._report.note(f"step {self.step}: {question} → {' '.join(one.text.split()) or '(nothing)'} ({score:.3f})")
        row = {"step": self.step, "question": question, "answer": one.text, "reward": score}
        with self._run.samples_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _seed(self, purpose: int) -> int:
        return int(numpy.random.SeedSequence([self._settings.seed, purpose, self.step]).generate_state(1)[0])

    def _new_optimizer(self) -> torch.optim.Optimizer:
        """AdamW. `times` is how much faster than --lr a group learns: LoRA+'s B matrices, and the new value head."""
        settings, kind = self._settings, self._actor.device.type
        second = [weight for name, weight in self._policy.items() if "lora_B" in name]
        first = [weight for name, weight in self._policy.items() if "lora_B" not in name]
        head = settings.value_learning_rate / settings.learning_rate if settings.learning_rate else 0.0
        groups = [
            {"params": first, "times": 1.0},
            {"params": second, "times": settings.rate_ratio},
            {"params": [*self._actor.value_head.parameters()], "times": head, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=kind in ("cpu", "cuda")
        )

    def _save(self) -> int:
        """Write a checkpoint, whole or not at all; returns its step."""
        with checkpoints.whole(self._run.checkpoints, first=True) as aside:
            folder = aside / f"checkpoint-{self.step}"
            folder.mkdir()
            save_file({name: weight.detach() for name, weight in self._policy.items()}, folder / _ADAPTER)
            save_file(self._actor.value_head.state_dict(), folder / _VALUE_HEAD)
            torch.save(self._optimizer.state_dict(), folder / _OPTIMIZER)
            state = {"global_step": self.step, "tokens": self.tokens, "kl_weight": self.kl_weight}
            (folder / _STATE).write_text(json.dumps(state), "utf-8")
        checkpoints.remove_old(self._run.checkpoints, self._settings.keep_checkpoints, None)
        return self.step

    @torch.no_grad()
    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint of the same settings."""
        device = self._actor.device
        for name, tensor in load_file(folder / _ADAPTER, device=str(device)).items():
            self._policy[name].copy_(tensor)
        self._actor.value_head.load_state_dict(load_file(folder / _VALUE_HEAD, device=str(device)))
        self._optimizer.load_state_dict(torch.load(folder / _OPTIMIZER, map_location=device, weights_only=True))
        state = json.loads((folder / _STATE).read_text("utf-8"))
        self.step, self.tokens, self.kl_weight = state["global_step"], state["tokens"], state["kl_weight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Goal:
    """Where each token's probability and value should go, rows [answers, longest]."""

    gains: Tensor
    returns: Tensor


def rate_at(step: int, total: int, settings: PpoSettings) -> float:
    """The learning rate of a step, counted from 0: it rises from the first one on, and falls as the schedule says."""
    rising = math.ceil(settings.warmup * total)
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    done = (step - rising) / max(total - rising, 1)
    left = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return settings.learning_rate * left[settings.schedule]


def _means(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(update[name] for update in updates) for name in updates[0]}


def _before(run: RunFolder) -> dict[str, float]:
    """The held-out reward before the first step, to compare with."""
    rows = [row for row in run.metrics() if row["step"] == 0 and "eval_reward" in row]
    return {"eval_reward_before": rows[0]["eval_reward"]} if rows else {}


def _smaller(settings: PpoSettings) -> str:
    half = f"--batch {settings.batch // 2} --accumulate {settings.accumulate * 2}, or " if settings.batch > 1 else ""
    return f"try {half}fewer --max-tokens, a smaller --max-length, or --checkpointing"
