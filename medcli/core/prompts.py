"""The instructions that models are given: `templates/prompts/*.md`, with $names filled in."""

from string import Template

from medcli.core.resources import templates


def prompt(name: str, **values: str) -> str:
    """The text of a prompt with its names replaced; raises KeyError when one is not given."""
    text = (templates() / "prompts" / f"{name}.md").read_text("utf-8")
    return Template(text).substitute(values).strip()
