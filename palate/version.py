"""Which code is running."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@cache
def code_version() -> str:
    """The package's version, such as "0.1.0"; in a git checkout "0.1.0+a9b4a1cbf1ef", with "+dirty" after changes."""
    try:
        release = version("palate")
    except PackageNotFoundError:
        release = "uninstalled"
    root = Path(__file__).resolve().parents[1]
    # A package installed in some other project's checkout must not pass for that project's commit.
    if _git(root, "rev-parse", "--show-toplevel") != str(root):
        return release
    commit, changes = _git(root, "rev-parse", "--short=12", "HEAD"), _git(root, "status", "--porcelain")
    return f"{release}+{commit or 'uncommitted'}" + ("+dirty" if changes else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says, or None where there is no git, or nothing that it can say."""
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
