"""Examinations made up item by item, as `med eval` would leave them."""

from dataclasses import replace

from medcli.core.exam import Item, Marked, means
from medcli.core.exam_file import Examination
from medcli.core.record import Message

SETTINGS = {"mode": "generate", "shots": 0, "limit": None, "system": None, "max_tokens": 256, "device": "cpu"}


def marked(id, value=None, *, metric="accuracy", answer="B", groups=(), outcome="answered", **others):
    values = dict(others) if value is None else {metric: float(value), **others}
    item = Item(
        id=id,
        prompt=(Message(role="user", content=f"{id}：发热三天怎么办？"),),
        reference="多喝水",
        groups=tuple(groups),
    )
    return Marked(item=item, answer=answer, values=values, outcome=outcome)


def examination(model, marks, *, exam="cmb-test", primary="accuracy", scores=(), **changes):
    """What came of an exam; its scores are the means of the marks, and `scores` besides."""
    found = Examination(
        model=model,
        exam=exam,
        kind="choice",
        primary=primary,
        dataset={"name": exam, "split": "test", "sha256": "ab" * 32, "answered": len(marks)},
        settings=SETTINGS,
        versions={"med": "1.0", "torch": "2.13"},
        scores=(*means(marks, 42), *scores),
        groups=(),
        marked=tuple(marks),
    )
    return replace(found, **changes)


def both(ones, others, *, exam="cmb-test", names=("base", "lora"), groups=None, **changes):
    """Two models' examinations, from their values in the same order."""
    sides = []
    for model, values in zip(names, (ones, others), strict=True):
        marks = [
            marked(
                f"q{index}",
                value,
                metric=changes.get("primary", "accuracy"),
                answer=f"{model}答{value}",
                groups=groups[index] if groups else (),
            )
            for index, value in enumerate(values)
        ]
        sides.append(examination(model, marks, exam=exam, **changes))
    return sides
