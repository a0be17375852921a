"""Records for the tests of gates, and a gate opened with settings."""

from collections import Counter

from medcli.core.build_settings import BuildSettings
from medcli.core.record import Conversation, Document, Message, Preference


def opened(module, changed=None, **settings):
    """A gate's check."""
    return module.gate(BuildSettings(**settings), Counter() if changed is None else changed)


def dialogue(*contents, roles=("user", "assistant") * 5, id="a"):
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, contents, strict=False))
    return Conversation(id=id, messages=messages, source="test")


def preference(prompt="头疼", chosen="休息", rejected="不管"):
    messages = (Message(role="user", content=prompt),)
    return Preference(id="a", prompt=messages, chosen=chosen, rejected=rejected, source="test")


def document(text):
    return Document(id="a", text=text, source="test")
