"""Pairs of answer and reference that metrics stumble over."""

import random

from medcli.core.score import Answer

ODD = [
    ("", ""),
    ("", "头痛"),
    ("头痛", ""),
    (" \n", "头痛"),
    (" ", " "),
    ("\n", "\t头 痛\r\n"),
    ("痛", "痛"),
    ("痛", "热"),
    ("头痛", "头痛"),
    ("。", "。"),
    ("。，！", "？"),
    ("……。", "..."),
    ("😀😀", "😀"),
    ("👨\u200d⚕️请坐", "👩\u200d⚕️请坐"),
    ("体温38.5℃，血压120/80mmHg", "体温38℃，血压120/80 mmHg"),
    ("take aspirin 100 mg 每日一次.", "每日一次，take aspirin 100mg"),
    ("ＡＢＯ血型，５％葡萄糖", "ABO血型，5%葡萄糖"),
    ("一、多喝水\r\n\r\n二、休息\n", "一、多喝水\n二、休息"),
    ("头痛头痛头痛头痛", "头痛"),
    ("没事 .", "没事 ."),
    ("𠮷野家\ud83d", "\ufeff吉野家"),
]
LONG = 20_000  # characters


def odd():
    return [Answer(text=text, reference=reference) for text, reference in ODD]


def drawn(seed, count, letters="头痛发热咳嗽，。 ab1.", longest=40):
    """Random pairs, the empty one among them."""
    draw = random.Random(seed)
    texts = ["".join(draw.choices(letters, k=draw.randrange(longest))) for _ in range(2 * count)]
    return [Answer(text=one, reference=other) for one, other in zip(texts[::2], texts[1::2], strict=True)]


def long():
    """Pairs of 20,000 characters: random ones, one rare character again and again, a text and itself."""
    draw = random.Random(6)
    one, other = ("".join(chr(draw.randrange(0x4E00, 0x9FA6)) for _ in range(LONG)) for _ in range(2))
    pairs = {"random": (one, other), "rare": ("龘" * LONG, "龘" * (LONG - 1)), "equal": (one, one)}
    return {name: Answer(text=text, reference=reference) for name, (text, reference) in pairs.items()}
