"""How Label Studio tells us that somebody has answered: a door of one address, which wakes whoever pulls.

What the server sends is never read. It neither signs its calls nor repeats a lost one, and every member may send what
they like; so a call that knows the secret says "look again" and nothing more, and who waits looks now and then unasked.
"""

import hmac
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from annotation.client import StudioError

HEADER = "X-Palate-Secret"


@contextmanager
def listening(host: str, port: int, secret: str, wake: Callable[[], object]) -> Iterator[int]:
    """A door on `host` that calls `wake` for each POST whose header `HEADER` is the secret, while the context lasts.

    Without the header the answer is 401, with a wrong one 403, to anything but POST 501.

    Args:
        port: 0 for any that is free.
        wake: called from another thread.

    Returns:
        The port.

    Raises:
        StudioError: the address cannot be listened on.
    """

    class Door(BaseHTTPRequestHandler):
        timeout = 5
        server_version, sys_version = "palate", ""

        def do_POST(self) -> None:
            given = self.headers.get(HEADER)
            if given is None:
                status = HTTPStatus.UNAUTHORIZED
            elif hmac.compare_digest(given.encode(), secret.encode()):
                status = HTTPStatus.NO_CONTENT
                wake()
            else:
                status = HTTPStatus.FORBIDDEN
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a log of requests would hold what strangers send."""

    try:
        server = ThreadingHTTPServer((host, port), Door)
    except OSError as error:
        raise StudioError(f"{host}:{port} cannot be listened on ({error.strerror})", "give another --listen") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
