"""A speaker whose answers come in any order, and a process that answers with it until it is killed."""

import hashlib
import random
import sys
import time
from pathlib import Path

from medcli.core.speaker import Answer
from medcli.steps.predict import Settings, predict
from tests.building import Notes


class Hasty:
    """Answers a prompt by its text, its seed, and all that is asked beside it, as rounding in a batch does.

    Its answers come in an order that depends on what is asked. It stops after `most` answers, by `error`; "长" is too
    long for it, and an answer to "续" is cut.
    """

    def __init__(self, most=None, error=KeyboardInterrupt, pause=0.0):
        self.most, self.error, self.pause = most, error, pause
        self.asked = []
        self.closed = False

    def answers(self, prompts, sampling):
        self.asked.append([prompt[-1].content for prompt in prompts])
        beside = repr(prompts)
        order = list(range(len(prompts)))
        random.Random(beside).shuffle(order)
        try:
            for place in order:
                if self.most == 0:
                    raise self.error
                self.most = None if self.most is None else self.most - 1
                time.sleep(self.pause)
                yield place, answer_to(prompts[place], sampling[place], beside)
        finally:
            self.closed = True


def answer_to(prompt, how, beside):
    text = prompt[-1].content
    if "长" in text:
        return Answer(text="", finish="refused", problem=f"{text} is too long")
    said = hashlib.sha256(f"{prompt}{how}{beside}".encode()).hexdigest()[:12]
    return Answer(text=f"答{text}\n{said}", finish="length" if "续" in text else "stop", prompt_tokens=3, tokens=9)


def prompts_file(path, count=40):
    """One prompt a line: the third is too long, the answer to the sixth is cut."""
    texts = [f"问题{number}{'长' if number == 2 else '续' if number == 5 else ''}" for number in range(count)]
    path.write_text("\n".join(texts) + "\n", "utf-8")
    return path


def predicted(folder, speaker, report=None, **settings):
    """What comes of the prompts in `folder`/in.txt, in `folder`/out.jsonl unless another file is named."""
    asked = {"model": "med-tiny", "input": str(folder / "in.txt"), "output": folder / "out.jsonl"} | settings
    return predict(Settings(**asked), report or Notes(), speaker=speaker)


if __name__ == "__main__":  # the process that is killed
    predicted(Path(sys.argv[1]), Hasty(pause=0.01), format=sys.argv[2])
