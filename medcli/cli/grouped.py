"""A help page whose options stand in groups: sixty in one list are read by nobody."""

from typing import Any

from typer.core import TyperCommand, TyperOption

from medcli.core.train_settings import GROUPS

WIDEST = 120  # columns of a help page on a wide terminal
METHOD = "Method"
COMMAND = "Command"


class Grouped(TyperCommand):
    """Prints options under the titles of their groups; those of the command itself come last."""

    def __init__(self, *arguments: Any, **given: Any) -> None:
        super().__init__(*arguments, **given)
        self.context_settings = {**self.context_settings, "max_content_width": WIDEST}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {METHOD: [], **{title: [] for title in GROUPS}, COMMAND: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = parameter.rich_help_panel if isinstance(parameter, TyperOption) else None
                groups[panel or COMMAND].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def group_of_training(name: str) -> str:
    """The group a training setting belongs to."""
    return next((title for title, names in GROUPS.items() if name in names), METHOD)
