"""Where people judge in a browser, for as long as the demo runs."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from palate.errors import PalateError
from palate.store import Store


@contextmanager
def served(folder: Path, port: int) -> Iterator[None]:
    """`palate annotate serve` on `port` for the demo in `folder`, and the link under which people sign up.

    Raises:
        PalateError: it does not start; it has said why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = str(folder / "palate.db")
    Store(store).close()
    click.secho("$ palate annotate serve &", dim=True)
    command = [sys.executable, "-m", "palate", "annotate", "serve", "--store", store, "--port", str(port)]
    # In a group of its own: at Ctrl+C whoever waits for answers takes leave of the server before it is stopped.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as server:
        try:
            link = server.stdout.readline() if server.stdout else ""
            if not link:
                raise PalateError("nobody can judge", "see the line above; the setting port=N chooses another port")
            click.echo(link.rstrip())
            yield
        finally:
            server.terminate()
