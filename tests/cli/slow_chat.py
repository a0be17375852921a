"""A conversation with a fake model that speaks slowly, for a test that types on a real terminal."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from medcli.cli import chat
from medcli.steps.chat import Settings


class SlowSpeaker:
    """Says how many messages it saw, the question and the seed; 慢 makes it slow, 哑 dumb."""

    def reply(self, messages, sampling):
        question = messages[-1].content
        if "哑" in question:
            sys.stderr.write("(silent)")
            sys.stderr.flush()
            time.sleep(30)
        answer = f"[{len(messages)}] 关于“{question}”：建议多喝水，注意休息，必要时就医。(seed {sampling.seed})"
        for character in answer:
            yield character
            time.sleep(0.3 if "慢" in question else 0.002)

    def replies(self, prompts, sampling, advance):
        raise NotImplementedError


if __name__ == "__main__":
    chat.talk(Settings(model="med-tiny"), None, as_json=False, speaker_of=lambda model, settings, report: SlowSpeaker())
