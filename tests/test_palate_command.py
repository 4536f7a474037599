"""The real command, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest

from palate.records import Case
from palate.store import Store

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "numpy", "pydantic", "sqlalchemy", "scipy", "av"}

COMMANDS = '''
import click

from palate.errors import PalateError


@click.group()
def plugin():
    """Commands of a third party."""


@plugin.command()
def mend():
    raise PalateError("the widget is bent", "straighten it")


@plugin.command()
def crash():
    raise ZeroDivisionError("our fault")


@plugin.command()
def hang():
    print("ready", flush=True)
    __import__("time").sleep(60)


@plugin.command()
@click.argument("number", type=int)
def count(number):
    click.echo(number + 1)
'''


@pytest.fixture
def plugged(tmp_path):
    """A folder of installed packages: one that works, one that is broken, and Palate's own description."""
    for name, entries in {
        "third": "[palate.commands]\nplugin = third_party:plugin\nbroken = third_party_gone:command\n"
        "scaling = palate.scaling_cli:scaling\n[palate.commands.scaling]\nmore = third_party:count\n",
        "impostor": "[palate.commands]\ndoctor = third_party:plugin\n",
    }.items():
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (folder / "entry_points.txt").write_text(entries)
    (tmp_path / "third_party.py").write_text(COMMANDS)
    return tmp_path


def described(folder, *requirements):
    """Palate's installed description, asking for these packages."""
    info = folder / "palate-9.9.9.dist-info"
    info.mkdir(exist_ok=True)
    asked = "".join(f"Requires-Dist: {one}\n" for one in requirements)
    info.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: palate\nVersion: 9.9.9\nProvides-Extra: more\n{asked}"
    )


def environment(*folders):
    return {**os.environ, "PYTHONPATH": ":".join([*map(str, folders), str(ROOT)])}


def palate(*arguments, folders=(), **more):
    command = [sys.executable, "-m", "palate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(*folders), **more)


def imported(*arguments, folders=()):
    command = [sys.executable, "-X", "importtime", "-m", "palate", *arguments]
    told = subprocess.run(command, capture_output=True, text=True, env=environment(*folders), check=False).stderr
    return {line.rpartition("|")[2].strip() for line in told.splitlines()}


def test_help_is_quick_and_imports_nothing_heavy(plugged):
    took = []
    for _ in range(3):
        started = time.monotonic()
        palate("--help", folders=[plugged])
        took.append(time.monotonic() - started)
    done = palate("--help", folders=[plugged])
    assert done.returncode == 0
    for words in ("doctor", "trace", "plugin", "Commands of a third party."):
        assert words in done.stdout
    modules = imported("--help", folders=[plugged])
    assert "palate.cli" in modules
    assert not HEAVY & modules
    assert min(took) < 0.6  # 0.15 s on a machine at rest; the modules above are what keeps it so


def test_doctor_imports_no_torch(plugged):
    described(plugged, "torch")
    assert "torch" not in imported("doctor", folders=[plugged])


def test_exit_codes(plugged, tmp_path):
    def told(*arguments):
        done = palate(*arguments, folders=[plugged], cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    assert told("plugin", "count", "1") == (0, "2\n", "")
    assert told("scaling", "more", "1") == (0, "2\n", "")  # a command in a group that two packages share
    assert told("plugin", "mend") == (2, "", "palate: the widget is bent: straighten it\n")
    code, _, said = told("plugin", "crash")
    assert code == 1
    assert "our fault" in said
    assert "Traceback" in said
    assert "ZeroDivisionError" in said
    for wrong in (["plugin", "count", "x"], ["plugin", "count"], ["nothing"], ["--nonsense"], ["trace"]):
        code, out, said = told(*wrong)
        assert (code, out) == (2, "")
        assert "Error: " in said
        assert "Traceback" not in said


def test_a_broken_command_does_not_take_the_others_with_it(plugged):
    done = palate("--help", folders=[plugged])
    assert done.returncode == 0
    assert "Cannot be loaded" in done.stdout
    broken = palate("broken", folders=[plugged])
    assert broken.returncode == 2
    assert broken.stderr.startswith(
        "palate: the command 'broken' cannot be loaded (No module named 'third_party_gone')"
    )
    assert palate("doctor", "--help", folders=[plugged]).stdout.count("third party") == 0  # the core's own names win


def test_stopped(plugged):
    command = [sys.executable, "-m", "palate", "plugin", "hang"]
    env, pipe = environment(plugged), subprocess.PIPE
    # A shell that runs the tests in the background has told its children to ignore Ctrl+C.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, text=True, env=env, stdout=pipe, stderr=pipe, preexec_fn=heed) as running:
        assert running.stdout
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        said = running.communicate()[1]
    assert running.returncode == 130
    assert said.strip() == "palate: stopped; run the same command again to go on"


def test_trace_finds_its_store(tmp_path):
    case = Case(suite="s", prompt="a red circle")
    with Store(str(tmp_path / "palate.db")) as store:
        store.add([case])
    done = palate("trace", case.id, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{case.id} 'a red circle'\n")
    done = palate("trace", case.id, "--json", "--store", f"sqlite:///{tmp_path}/palate.db")
    assert json.loads(done.stdout)["records"][0]["prompt"] == case.prompt
    done = palate("trace", "case-0000", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "palate: case-0000 is not in palate.db: check the id, and that --store names the right store\n"
    )
    done = palate("trace", case.id, "--store", "absent.db", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "absent.db").exists()


def test_doctor(plugged):
    present = f"click=={version('click')}"
    described(plugged, present, "numpy>=1", 'no-such-thing>=2; extra == "more"', 'pywin32; sys_platform == "win32"')
    done = palate("doctor", folders=[plugged])
    assert done.returncode == 0, done.stdout
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert rows["palate"].split() == ["palate", "ok", "9.9.9"]
    assert version("click") in rows["click"]
    assert rows["no-such-thing"].split(None, 3) == [
        "no-such-thing",
        "(more)",
        "absent",
        "pip install 'no-such-thing>=2'",
    ]
    assert "pywin32" not in rows
    for name in ("python", "h264", "git", "cores", "memory", "free"):
        assert name in rows


@pytest.mark.parametrize("wanted", ["no-such-thing>=2", "click>=999"])
def test_doctor_finds_what_is_missing(plugged, wanted):
    described(plugged, "numpy", wanted)
    done = palate("doctor", folders=[plugged])
    assert done.returncode == 2
    assert f"MISSING  pip install '{wanted}'" in done.stdout
    told = json.loads(palate("doctor", "--json", folders=[plugged]).stdout)
    missing = [one["name"] for one in told if one["required"] and not one["found"]]
    assert missing == [wanted.partition(">")[0]]
