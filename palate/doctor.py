"""What this machine has, what it lacks, and the command that gets it."""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked for.

    Attributes:
        found: what is there, or "" where it is missing or too old.
        required: whether Palate cannot work without it.
        remedy: the command that gets it, where it is missing.
    """

    name: str
    found: str
    required: bool
    remedy: str = ""


def examine() -> list[Finding]:
    """Everything Palate uses, the required first. Imports nothing heavy; starts nothing."""
    return [
        Finding("python", platform.python_version(), True),
        *_packages(),
        _encoder(),
        _cuda(),
        Finding("git", shutil.which("git") or "", False, "apt-get install git"),
        Finding("postgresql server", _server(), False, "apt-get install postgresql"),
        Finding("cores", str(len(os.sched_getaffinity(0))), False),
        Finding("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB", False),
        Finding("free disk here", f"{shutil.disk_usage('.').free / GIB:.1f} GiB", False),
    ]


def as_text(findings: list[Finding]) -> str:
    """A table, one line a finding."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        state = "ok" if finding.found else "MISSING" if finding.required else "absent"
        lines.append(f"{finding.name:<{width}}  {state:<7}  {finding.found or finding.remedy}")
    return "\n".join(lines)


def to_json(findings: list[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=1)


def _packages() -> Iterator[Finding]:
    """The packages that pyproject.toml asks for; those of an extra are not required."""
    try:
        palate = distribution("palate")
    except PackageNotFoundError:
        yield Finding("palate", "", True, "pip install -e .")
        return
    yield Finding("palate", palate.version, True)
    extras = palate.metadata.get_all("Provides-Extra") or []
    for package in map(Requirement, palate.requires or ()):
        marker = package.marker
        needed_by = ["", *extras] if marker is None else [e for e in ["", *extras] if marker.evaluate({"extra": e})]
        if not needed_by:
            continue  # for another platform
        try:
            present = version(package.name)
        except PackageNotFoundError:
            present = ""
        found = present if present and package.specifier.contains(present, prereleases=True) else ""
        name = f"{package.name} ({needed_by[0]})" if needed_by[0] else package.name
        yield Finding(name, found, needed_by[0] == "", f"pip install '{package.name}{package.specifier}'")


def _encoder() -> Finding:
    try:
        from av.codec import codecs_available

        found = "libx264, in PyAV" if "libx264" in codecs_available else ""
    except ImportError:
        found = ""
    return Finding("h264 encoder", found, True, "pip install --force-reinstall --only-binary av av")


def _cuda() -> Finding:
    """Whether the installed torch was built for CUDA, told by its files: importing torch takes seconds."""
    try:
        built = Path(str(distribution("torch").locate_file("torch/lib/libtorch_cuda.so"))).exists()
    except PackageNotFoundError:
        built = False
    driver = shutil.which("nvidia-smi")
    if built:
        found = "yes, and a driver" if driver else "yes, but no NVIDIA driver is installed"
    else:
        found = ""
    return Finding(
        "torch with CUDA", found, False, "pip install torch --index-url https://download.pytorch.org/whl/cu128"
    )


def _server() -> str:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return str(programs[-1].parent) if programs else shutil.which("initdb") or ""
