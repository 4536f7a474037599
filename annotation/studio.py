"""A Label Studio server of our own: started with analytics off, reached on loopback alone, stopped whole.

It may call one address and no other, `HOOK`, so that nobody who can log in reaches other machines or services by it.

Its secrets are files that only their owner can read, in a folder beside the store: the administrator's token and
password, and the salt without which no name that annotators see can be linked to a sample.
"""

import ctypes
import hmac
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path

from annotation.client import Client, StudioError

STARTING = 1200.0  # seconds; a fresh database takes 26 on an idle machine, and has taken over 300 on a busy one
STOPPING = 15.0
HOOK = "127.0.0.2"  # loopback, but not the address on which people run their other services
ADMIN = "admin@palate.invalid"


@dataclass(frozen=True)
class Home:
    """The folder of one store's annotation server. Only `served`, in it, is ever shown to annotators."""

    folder: Path

    @property
    def served(self) -> Path:
        return self.folder / "served"

    @property
    def process(self) -> Path:
        """A file with the number of the server's process and its port, while one runs."""
        return self.folder / "process"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "log"

    @cached_property
    def token(self) -> str:
        """The administrator's token."""
        return self._secret("token", 20)

    @cached_property
    def password(self) -> str:
        """The administrator's password, for the login page."""
        return self._secret("password", 16)

    @cached_property
    def salt(self) -> bytes:
        """What makes names opaque (`annotation.design.blind_name` too); losing it makes pushed work unreadable."""
        return bytes.fromhex(self._secret("salt", 32))

    def opaque(self, *what: str) -> str:
        """A name of 64 hex digits for something of ours; without the salt nobody can tell of what."""
        return hmac.digest(self.salt, "\0".join(what).encode(), "sha256").hex()

    def _secret(self, name: str, size: int) -> str:
        """The secret of that name, made at the first call; two first calls at once agree."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / name
        if not path.exists():
            part = self.folder / f".{name}.{secrets.token_hex(4)}"
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(size))
            with suppress(FileExistsError):
                os.link(part, path)
            part.unlink()
        return path.read_text()


@contextmanager
def running(home: Home, port: int, program: Path | None = None) -> Iterator[Client]:
    """A server, ready for work, for as long as the context lasts; no process of it is left afterwards.

    Args:
        program: the `label-studio` to run. By default the one beside this Python, or on the PATH.

    Raises:
        StudioError: no such program, the port is taken, or the server does not become ready.
    """
    found = program or _program()
    _check_port(home, port)
    environment = os.environ | _environment(home)  # makes the secrets, and with them the folder, closed to others
    home.served.mkdir(exist_ok=True)
    command = [str(found), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    with os.fdopen(os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        try:
            process = subprocess.Popen(
                [*command, "--data-dir", str((home.folder / "server").absolute())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        except OSError as error:
            raise StudioError(f"{found} does not start ({error.strerror})", "install the extra label-studio") from None
    home.process.write_text(f"{process.pid} {port}")
    try:
        with Client(f"http://127.0.0.1:{port}", home.token) as client:
            _wait(client, process, home.log)
            yield client
    finally:
        _stop(process)
        home.process.unlink()


def _check_port(home: Home, port: int) -> None:
    """Asked before starting because Label Studio would quietly take the next port instead.

    Raises:
        StudioError: the port is taken, perhaps by a server of this very home.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            problem, remedy = f"port {port} cannot be used ({error.strerror})", "give another --port"
            if home.process.exists():
                pid, used = home.process.read_text().split()
                if int(used) == port and Path(f"/proc/{pid}").exists():
                    problem = f"this store's own Label Studio already runs on port {port}"
                    remedy = f"work with it as it is, or end it first (kill {pid})"
            raise StudioError(problem, remedy) from None


def _end_with_parent() -> None:
    """In the new process: be stopped when ours dies, even by SIGKILL. Linux does that; others need a Ctrl+C."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _environment(home: Home) -> dict[str, str]:
    return {
        "LABEL_STUDIO_USERNAME": ADMIN,
        "LABEL_STUDIO_PASSWORD": home.password,
        "LABEL_STUDIO_USER_TOKEN": home.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(home.served.absolute()),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "USER_ADDITIONAL_BANNED_SUBNETS": ",".join(
            map(str, [*IPv4Network("0.0.0.0/0").address_exclude(IPv4Network(HOOK)), "::/0"])
        ),
    }


def _program() -> Path:
    beside = Path(sys.executable).with_name("label-studio")
    found = str(beside) if beside.exists() else shutil.which("label-studio")
    if not found:
        raise StudioError(
            "there is no label-studio here", "run `make label-studio`, or give --program the path of yours"
        )
    return Path(found)


def _wait(client: Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StudioError(f"Label Studio stopped with exit code {process.returncode}", f"read {log}")
        if client.healthy():
            client.invitation()  # and the token is let in
            return
        time.sleep(0.25)
    raise StudioError(f"Label Studio is not ready after {STARTING:.0f} s", f"read {log}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server and whatever it started: they are a process group of their own."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOPPING)
