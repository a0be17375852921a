"""The Typer application, whose commands are imported only when one of them is run."""

from importlib import import_module
from typing import Any

import typer.main
from typer.core import TyperGroup

from medcli import __version__
from medcli.cli import help as plain_help
from medcli.cli.table import TABLE
from medcli.core.settings import environment, project_table


class LazyGroup(TyperGroup):
    """Resolve commands from TABLE."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(TABLE)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.commands = dict.fromkeys(TABLE)  # type: ignore[assignment]  # the names "Did you mean" draws from
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in TABLE:
            return None
        command = typer.main.get_command(import_module(TABLE[cmd_name][0]).app)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(plain_help.root_page())


_REPORTS_ITSELF = "doctor"  # it tells all faults of med.toml and of variables, not only the first
app = typer.Typer(cls=LazyGroup, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"med {__version__}")
        raise typer.Exit


@app.callback(help=plain_help.SUMMARY)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    if context.invoked_subcommand == _REPORTS_ITSELF:
        return
    if environment() or project_table():
        from medcli.cli.options import check_names

        check_names()
