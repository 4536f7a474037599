"""`palate annotate serve | push | pull | watch`: people at a real Label Studio."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from palate.cli import json_option, report, store_option

if TYPE_CHECKING:
    from annotation.client import Client
    from annotation.studio import Home
    from palate.store import Store

F = TypeVar("F", bound=Callable[..., Any])

PORT = 8080
PAUSE = 1.0  # seconds between two pulls at least, however often the server calls
study_option = click.option("--study", required=True, help="name of the experiment")


def server_options(command: F) -> F:
    """Adds `url` and `token`: the server of `palate annotate serve`, unless a team's own is named."""
    url = click.option(
        "--url", envvar="LABEL_STUDIO_URL", default=f"http://127.0.0.1:{PORT}", show_default=True, help="the server"
    )
    token = click.option(
        "--token", envvar="LABEL_STUDIO_TOKEN", help="of any member; by default that of `serve`", metavar="HEX"
    )
    return url(token(command))


@click.command()
@click.option("--port", default=PORT, show_default=True)
@click.option("--program", type=click.Path(path_type=Path), help="the label-studio to run")
@store_option
def serve(port: int, program: Path | None, store: str) -> None:
    """Run a Label Studio for this store's annotators until it is stopped."""
    from annotation.client import StudioError
    from annotation.studio import ADMIN, running
    from palate.store import Store

    signal.signal(signal.SIGTERM, _interrupt)
    with Store(store, create=False) as record:
        home = _home(record)
    with running(home, port, program) as client:
        click.echo(f"annotators sign up at {client.invitation()}")
        click.echo(f"you log in as {ADMIN}, with the password in {home.folder / 'password'}; Ctrl+C stops the server")
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # our only child is the server
        except KeyboardInterrupt:
            click.echo("stopping")
        else:
            raise StudioError("Label Studio has stopped by itself", f"read {home.log}")


@click.command()
@study_option
@click.option("--interface", default="shapes", show_default=True, help="which questions: omni, avatar, ...")
@click.option("--overlap", type=click.IntRange(min=1), default=3, show_default=True, help="people for each comparison")
@server_options
@store_option
@json_option
def push(study: str, interface: str, overlap: int, url: str, token: str | None, store: str, as_json: bool) -> None:
    """Give the annotators the comparisons of a study that they do not have yet."""
    from tqdm import tqdm

    from annotation.interface import questions
    from annotation.sync import push

    asked = questions(interface)
    with _connected(store, url, token) as (record, home, client), tqdm(unit=" tasks", disable=as_json) as bar:
        added = push(record, study, home, client, asked, overlap, bar.update)
    text = f"study {study}: {added} tasks added" if added else f"study {study}: nothing new"
    report(as_json, text, {"study": study, "added": added})


@click.command()
@study_option
@click.option("--all", "everything", is_flag=True, help="read what has not changed too; notices deleted tasks")
@server_options
@store_option
@json_option
def pull(study: str, everything: bool, url: str, token: str | None, store: str, as_json: bool) -> None:
    """Read what the annotators have answered, edited or deleted since the last pull into the store."""
    from dataclasses import asdict

    from annotation.sync import pull

    with _connected(store, url, token) as (record, home, client):
        found = pull(record, study, home, client, everything)
    text = f"{found.annotations} annotations read, {found.refused} refused; {found.added or 'nothing'} new"
    report(as_json, f"study {study}: {text}", {"study": study, **asdict(found)})


@click.command()
@study_option
@click.option("--every", type=click.FloatRange(min=1), default=60.0, show_default=True, help="look unasked, in seconds")
@click.option("--listen", metavar="HOST:PORT", help="where the server's calls are taken; by default on loopback")
@click.option("--callback", metavar="URL", help="how the server reaches that, where it is another machine")
@click.option("--poll", is_flag=True, help="take no calls, only look")
@click.option("--until-done", is_flag=True, help="stop when everything has been answered by as many as asked")
@server_options
@store_option
def watch(
    study: str,
    every: float,
    listen: str | None,
    callback: str | None,
    poll: bool,
    until_done: bool,
    url: str,
    token: str | None,
    store: str,
) -> None:
    """Pull whenever somebody has answered, until stopped.

    The server calls when there is something new, with a secret that is made for this watch. Its calls are not repeated
    when lost, so it is also looked at unasked.
    """
    import secrets
    from contextlib import ExitStack
    from threading import Event

    from annotation.hook import HEADER, listening
    from annotation.studio import HOOK
    from annotation.sync import pull, pushed, waiting

    signal.signal(signal.SIGTERM, _interrupt)
    news, secret = Event(), secrets.token_hex(32)
    host, _, port = (listen or f"{HOOK}:0").rpartition(":")
    if not host or not port.isdigit():
        raise click.BadParameter(f"{listen!r} is not HOST:PORT", param_hint="--listen")
    with _connected(store, url, token) as (record, home, client), ExitStack() as until_stopped:
        project = pushed(client, home, study)
        if not poll:
            number = until_stopped.enter_context(listening(host, int(port), secret, news.set))
            address = callback or f"http://{host}:{number}/"
            arrangement = client.call_on_answers(project.id, address, {HEADER: secret})
            until_stopped.callback(_take_leave, client, arrangement)
            click.echo(f"study {study}: {client.url} calls {address}")
        if until_done:
            click.echo(f"study {study} waits for answers at {client.url}/projects/{project.id}/data?labeling=1")
        while True:
            news.clear()
            found = pull(record, study, home, client)
            left = waiting(record, study, project.overlap)
            if found.added:
                click.echo(f"study {study}: {found.added} new, {found.refused} of those read refused; {left} to answer")
            if until_done and not left:
                break
            time.sleep(PAUSE)
            news.wait(every)


def _take_leave(client: "Client", arrangement: int) -> None:
    """Ask for no more calls; of a server that is gone nothing need be asked, and the next watch replaces this one's."""
    from annotation.client import StudioError

    with suppress(StudioError):
        client.call_no_more(arrangement)


@contextmanager
def _connected(store: str, url: str, token: str | None) -> "Iterator[tuple[Store, Home, Client]]":
    from annotation.client import Client
    from palate.store import Store

    with Store(store, create=False) as record:
        home = _home(record)
        with Client(url, token or home.token) as client:
            yield record, home, client


def _home(record: "Store") -> "Home":
    from annotation.studio import Home

    return Home(record.media.folder.parent / "label-studio")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
