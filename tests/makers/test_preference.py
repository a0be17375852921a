"""Answers ranked by the rewards of a judge."""

import math

import pytest

from medcli.core.errors import ModelError
from medcli.core.record import Message
from medcli.makers.preference import Candidate, Prompt, by_reward, make


class Judge:
    """Gives the reward that stands in the answer, and remembers what it read."""

    def rewards(self, dialogues, advance):
        self.read = list(dialogues)
        advance(len(dialogues))
        return [float(dialogue[-1].content) for dialogue in dialogues]


def prompt(id, *answers):
    return Prompt(
        id=id, messages=(Message(role="user", content=id),), reference="0", answers=answers, split="train", line=1
    )


def rows(*prompts, margin=0.05):
    return list(make(prompts, by_reward(Judge(), lambda done: None), margin))


def test_the_highest_reward_is_chosen_and_the_lowest_rejected():
    first, second = rows(prompt("a", "1", "3", "-2"), prompt("b", "101", "100", "100.5"))
    assert (first.record.chosen, first.record.rejected) == ("3", "-2")
    assert (second.record.chosen, second.record.rejected) == ("101", "100")


def test_a_margin_is_a_distance_of_rewards_wherever_they_lie():
    apart = 4 * math.atanh(0.05)
    for base in (0, 50, -1000):
        near, far = (prompt(str(base), str(base), str(base + apart * share)) for share in (0.98, 1.02))
        reasons = [row.reason for row in rows(near, far)]
        assert reasons == ["the answers are about as good as each other", ""]


def test_the_judge_reads_the_whole_dialogue():
    judge, candidate = Judge(), Candidate(prompt=prompt("a").messages, reference="0", answer="1")
    (worth,) = by_reward(judge, lambda done: None)([candidate])
    assert worth == 0.5
    assert [(m.role, m.content) for m in judge.read[0]] == [("user", "a"), ("assistant", "1")]


def test_a_reward_that_is_no_number_is_an_error():
    with pytest.raises(ModelError, match="no number"):
        rows(prompt("a", "nan", "1"))
