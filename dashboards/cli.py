"""`palate dash`: the dashboards, and a report of them."""

from pathlib import Path

import click

from palate.cli import json_option, store_option


@click.group(invoke_without_command=True)
@store_option
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Ask visitors for the password in this file.",
)
@click.option(
    "--login",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Have visitors log in with the OpenID Connect provider in the [auth] section of this TOML file.",
)
@click.pass_context
def dash(ctx: click.Context, store: str, port: int, password_file: Path | None, login: Path | None) -> None:
    """Open the dashboards on this machine (127.0.0.1 alone); the record is only read."""
    if ctx.invoked_subcommand:
        return
    import os
    import time

    from streamlit.web.cli import main

    from dashboards import app
    from dashboards.reader import opened

    if login:
        _check_login(login)
    began = time.monotonic()
    votes = len(opened(store).snapshot().verdict["axis"])  # read here, so that the first visitor need not wait
    click.echo(
        f"{votes:,} verdicts read in {time.monotonic() - began:.1f} s. Open http://127.0.0.1:{port} (Ctrl+C stops)"
    )
    os.environ[app.STORE] = store
    if password_file:
        os.environ[app.PASSWORD] = str(password_file.resolve())
    if login:
        os.environ[app.LOGIN] = "yes"
    told = {
        **({"secrets.files": str(login.resolve())} if login else {}),
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.maxUploadSize": "20",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "theme.light.primaryColor": "#0072B2",
        "theme.dark.primaryColor": "#56B4E9",
    }
    main(["run", str(Path(app.__file__)), *(f"--{key}={value}" for key, value in told.items())])


def _check_login(file: Path) -> None:
    """Raise ConfigError where logging in cannot work, before anybody is let in."""
    import tomllib
    from importlib.util import find_spec

    from palate.errors import ConfigError

    if not find_spec("authlib"):
        raise ConfigError("logging in needs authlib", "run pip install 'palate[dash]'")
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no TOML ({error})", "see docs/dashboards-login.md") from error
    if not isinstance(told.get("auth"), dict):
        raise ConfigError(f"{file} has no section [auth]", "see docs/dashboards-login.md")


@dash.command()
@store_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("palate.html"), show_default=True)
@click.option("--page", "pages", multiple=True, help="Only this page; may be given again.")
@click.argument("filters", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
def export(store: str, out: Path, pages: tuple[str, ...], filters: tuple[str, ...], as_json: bool) -> None:
    """Write pages into one HTML file that needs no server. Filters are those of a dashboard's URL, as axis=overall."""
    from dashboards.export import report
    from dashboards.reader import Reader
    from dashboards.views import PAGES
    from palate.cli import report as told
    from palate.errors import ConfigError
    from palate.files import whole_file

    named = {title.lower(): title for title in PAGES}
    unknown = [page for page in pages if page.lower() not in named]
    if unknown:
        raise ConfigError(f"there is no page {unknown[0]!r}", f"choose from {', '.join(PAGES)}")
    values = {key: value for key, _, value in (one.partition("=") for one in filters)}
    titles = [named[page.lower()] for page in pages] or list(PAGES)
    html = report(Reader(store), titles, values)
    with whole_file(out) as file:
        file.write(html.encode())
    told(as_json, f"{len(titles)} pages in {out}", {"pages": titles, "file": str(out)})
