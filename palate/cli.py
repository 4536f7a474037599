"""The `palate` command.

Commands are found through entry points of the group "palate.commands" (those of `palate scaling`, which two stages
share, also of "palate.commands.scaling") and loaded when they are asked for. A file of commands imports click alone;
what a command needs is imported inside its function, so that `palate --help` is quick.
"""

import json
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from palate.errors import PalateError

F = TypeVar("F", bound=Callable[..., Any])

store_option = click.option(
    "--store",
    metavar="URL",
    envvar="PALATE_STORE",
    default="palate.db",
    show_default=True,
    help="A file, or postgresql://…",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def settings_options(command: F) -> F:
    """Adds what `palate.config.load` takes: `recipe`, a path or None, and `overrides` such as "fit.steps=100"."""
    recipe = click.option("--recipe", type=click.Path(path_type=Path), help="Settings in a TOML file.")
    overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    return recipe(overrides(command))


def report(as_json: bool, text: str, facts: Mapping[str, object]) -> None:
    """Print what a command has done: a sentence for people, or its facts as JSON."""
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else text)


class Assembled(click.Group):
    """A group of its own commands, and of those that installed packages add under the entry-point group `entries`."""

    def __init__(self, *arguments: Any, entries: str, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._entries = entries

    @cached_property
    def _found(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self._entries)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._found})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        core = super().get_command(ctx, cmd_name)
        if core or cmd_name not in self._found:
            return core
        try:
            return self._found[cmd_name].load()
        except ImportError as error:
            return _unloadable(cmd_name, error)


def _unloadable(name: str, error: ImportError) -> click.Command:
    """Stands in for a command whose package is broken, so that the others go on working."""

    def refuse() -> NoReturn:
        raise PalateError(f"the command {name!r} cannot be loaded ({error})", "install its package again")

    return click.Command(name, callback=refuse, short_help=f"Cannot be loaded: {error}.", add_help_option=False)


@click.group(cls=Assembled, entries="palate.commands", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="palate")
def palate() -> None:
    """Teach video generators human taste."""


@palate.command()
@click.argument("id")
@store_option
@click.option("--all", "every", is_flag=True, help="Print every row instead of the first few.")
@json_option
def trace(id: str, store: str, every: bool, as_json: bool) -> None:
    """Walk from a number, or any record, back to the votes, samples, seeds and checkpoints behind it."""
    from palate.provenance import as_text, to_json, walk
    from palate.store import Store

    with Store(store, create=False) as opened:
        walked = walk(opened, id)
    click.echo(to_json(walked) if as_json else as_text(walked, every))


@palate.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what is installed, what is missing, and how to get it."""
    from palate.doctor import as_text, examine, to_json

    findings = examine()
    click.echo(to_json(findings) if as_json else as_text(findings))
    if any(finding.required and not finding.found for finding in findings):
        sys.exit(2)


def main() -> NoReturn:
    """The console script. Exit code 0 done, 1 our fault, 2 the user can mend it, 130 stopped."""
    try:
        sys.exit(palate(prog_name="palate", standalone_mode=False))
    except PalateError as error:
        click.echo(f"palate: {error}", err=True)
        sys.exit(2)
    except click.Abort:  # what click makes of a KeyboardInterrupt
        click.echo("palate: stopped; run the same command again to go on", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except Exception:
        click.echo("palate: this is our fault, not yours; please report the lines below", err=True)
        raise
