"""Short runs of the reward model on models of a few thousand parameters and a few pairs of random tokens."""

import torch

from medcli.core.alignment_settings import RewardSettings
from medcli.core.model_ref import ModelRef, resolve
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.run_folder import RunFolder
from medcli.engine import attention, reward
from medcli.engine import device as devices
from medcli.engine.load import load
from medcli.engine.pack import Example, Examples, Pairs
from medcli.engine.reward_model import RewardModel, open_reward_model
from tests.engine.small_runs import example

CPU = torch.device("cpu")


def settings(**values):
    given = {"dataset": ("few",), "batch": 4, "precision": "fp32", "learning_rate": 3e-3, "schedule": "constant"}
    return RewardSettings(**given | {"warmup": 0.0, "max_steps": 2, "save_every": 100, **values})


def pairs(count=8, seed=0):
    """Pairs of unequal lengths, each ending with the end token, which is the padding's too."""
    made = [example(7 + (5 * n + seed) % 11, 4, seed + n) for n in range(2 * count)]
    return Pairs(Examples(Example(ids=ended(one.ids), trained=one.trained) for one in made))


def ended(ids):
    ids[-1] = 3
    return ids


def prepared(folder, wanted):
    devices.seed_all(wanted.seed)
    name = attention.NAME if wanted.packing else None
    ref = ModelRef(base=str(folder))
    return reward.prepare(load(ref, device=CPU, report=Silent(), attention=name, quant=wanted.quant), wanted)


def measured(loaded, wanted, examples):
    objective = reward.PairwiseReward(loaded, wanted)
    with objective.laid_over():
        return objective.measure(loaded.model, objective.collate(examples))


def trained(folder, path, wanted, data=None):
    loaded = prepared(folder, wanted)
    path.mkdir(parents=True, exist_ok=True)
    return loaded, reward.train(loaded, data or pairs(), pairs(4, 50), wanted, RunFolder(path), Silent())


def opened(path):
    return open_reward_model(resolve(str(path)), device="cpu", report=Silent())


def head_of(loaded):
    """The head's weight, that which learns where peft keeps two."""
    named = [
        weight for name, weight in loaded.model.named_parameters() if name.endswith(("default.weight", "score.weight"))
    ]
    return next(weight for weight in named if weight.shape[0] == 1)


def opened_scores(loaded, batch):
    return RewardModel(loaded).scores(batch)


def turns(*texts):
    roles = ("user", "assistant")
    return [Message(role=roles[index % 2], content=text) for index, text in enumerate(texts)]
