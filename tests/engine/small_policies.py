"""Policies of a few thousand parameters, prompts of a few words, and judges of a line."""

from dataclasses import dataclass, field

import numpy
import torch

from medcli.core.alignment_settings import PpoSettings, RewardSettings
from medcli.core.chat_template import plain
from medcli.core.model_ref import ModelRef
from medcli.core.reading import Asked
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.run_folder import RunFolder
from medcli.engine import actor as actors
from medcli.engine import attention, lora, ppo, reward
from medcli.engine import device as devices
from medcli.engine.pack import Example, Examples, Prompts
from tests import tiny_model

WORDS = "病药血水口心头手体小上下中性食眼"  # each is one token of the tiny tokenizer
QUESTIONS = ("感冒怎么办", "头痛", "胃痛吃什么药", "发烧", "咳嗽三天", "高血压")


@dataclass
class Told(Silent):
    """A report that remembers notes and figures."""

    notes: list[str] = field(default_factory=list)
    figures: list[dict[str, float]] = field(default_factory=list)

    def note(self, text):
        self.notes.append(text)

    def measure(self, step, values):
        self.figures.append({"step": step, **values})

    def of(self, name):
        """The values of one figure, of the steps that have it."""
        return [row[name] for row in self.figures if name in row]


class Judge:
    """A `Rewarder` by a rule of the answer's text."""

    def __init__(self, rule):
        self._rule = rule

    def rewards(self, dialogues, advance):
        return [float(self._rule(dialogue[-1].content)) for dialogue in dialogues]


def liked(text):
    """The share of characters that are the one which is liked: a sixteenth by chance, 1 at most."""
    return text.count(WORDS[0]) / max(len(text), 1)


def settings(**values):
    shared = {
        "dataset": ("few",),
        "reward": "rule",
        "precision": "fp32",
        "max_tokens": 8,
        "max_length": 64,
        "rank": 8,
        "rollouts": 16,
        "batch": 16,
        "learning_rate": 1e-2,
        "max_steps": 3,
        "warmup": 0.0,
        "sample_every": 0,
    }
    return PpoSettings(**shared | {"save_every": 100, "eval_every": 100} | values)


def prompts(loaded, questions=QUESTIONS):
    asked = [Asked(id=text, messages=(Message(role="user", content=text),), reference="") for text in questions]
    texts = [plain(loaded.template.render(one.messages, ask=True)) for one in asked]
    rows = loaded.tokenizer(texts, add_special_tokens=False)["input_ids"]
    ids = [numpy.array(row, dtype=numpy.int32) for row in rows]
    return Prompts(Examples(Example(ids=one, trained=numpy.zeros(len(one), bool)) for one in ids), asked)


def actor(folder, wanted, touch=lambda loaded: None, **judge):
    """A policy over the model in `folder`; `touch` may change that before."""
    devices.seed_all(wanted.seed)
    loaded = tiny_model.loaded(folder, attention.NAME if wanted.packing else "sdpa")
    touch(loaded)
    return actors.actor_of(lora.prepare(loaded, wanted), wanted, **judge)


def of_few_words(loaded):
    """Let the model know WORDS only, and be able to prefer one by far: a random head of 800 words is not."""
    known = [id for word in WORDS for id in loaded.tokenizer(word, add_special_tokens=False)["input_ids"]]
    assert len(known) == len(WORDS)
    head = torch.nn.Linear(loaded.head.in_features, loaded.head.out_features)
    with torch.no_grad():
        head.weight.normal_(std=0.2)
        head.bias.fill_(-100.0)
        head.bias[known] = 0.0
    loaded.model.lm_head = head.requires_grad_(False)


def train(folder, path, wanted, rule=liked, report=None, valid=True):
    policy = actor(folder, wanted, of_few_words, rewarder=Judge(rule))
    path.mkdir(parents=True, exist_ok=True)
    data = prompts(policy)
    return ppo.train(policy, data, data if valid else None, wanted, RunFolder(path), report or Silent())


def reward_run(folder, path, precision="fp32"):
    """An adapter and a head of random numbers over the model in `folder`, saved as a reward run saves them."""
    wanted = RewardSettings(dataset=("pairs",), precision=precision, rank=4)
    devices.seed_all(1)
    judge = reward.prepare(tiny_model.loaded(folder, attention.NAME), wanted)
    for name, weight in judge.model.named_parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight.data, std=1.0 if "score" in name else 0.2)
    lora.save(judge, path)
    return ModelRef(base=str(folder), adapters=(path,))
