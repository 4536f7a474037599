"""The files that references stand for: FOLDER/<id of the case>/<handle>.png or .mp4, such as add-01/Video_1.mp4.

A suite describes its references in words. Somebody photographs or films them, or a model makes them (`fill`); `attach`
takes them into the media folder. A case with files is another case than the same case with words, and has its own id.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from palate.errors import ConfigError, DataError
from palate.media import MediaFolder
from palate.prompt import Handle
from palate.records import Case

Make = Callable[[str, Path], object]  # writes what a description says to a path, as png or mp4


@dataclass(frozen=True)
class Asset:
    """One reference of one case: its description, and where its file is looked for."""

    about: str
    path: Path


def listed(cases: Iterable[Case], folder: Path) -> list[Asset]:
    """What the cases refer to, each file once: the same case in another language has the same files."""
    return list(
        dict.fromkeys(
            Asset(about, _place(case, handle, folder)) for case in cases for handle, about in case.conditions.items()
        )
    )


def attach(cases: Iterable[Case], folder: Path, media: MediaFolder) -> list[Case]:
    """The cases with the files of their references kept in the media folder.

    Raises:
        DataError: a file is not there.
        MediaError: a file that does not decode from end to end.
    """
    found = list(cases)
    lacking = [asset.path for asset in listed(found, folder) if not asset.path.is_file()]
    if lacking:
        problem = f"{lacking[0]} is not there" + (f", and {len(lacking) - 1} more are not" if lacking[1:] else "")
        raise DataError(problem, "`palate bench assets` lists what each shows, or has a model make them")
    names = {asset.path: media.add_file(asset.path) for asset in listed(found, folder)}
    return [
        case.model_copy(
            update={"conditions": {handle: names[_place(case, handle, folder)] for handle in case.conditions}}
        )
        for case in found
    ]


def fill(cases: Iterable[Case], folder: Path, make: Make) -> int:
    """Has `make` write the files that are not there; returns how many it wrote. Stopped, it goes on when called again.

    A text-to-image pipeline of diffusers makes pictures so:

        def make(about: str, path: Path) -> None:
            if path.suffix == ".png":
                pipeline(about).images[0].save(path)
    """
    due = [asset for asset in listed(cases, folder) if not asset.path.is_file()]
    made = 0
    for asset in tqdm(due, desc="assets", unit="file", mininterval=1.0):
        asset.path.parent.mkdir(parents=True, exist_ok=True)
        part = asset.path.with_stem(f".{asset.path.stem}")
        make(asset.about, part)
        if part.is_file():
            part.replace(asset.path)
            made += 1
    return made


def function_named(name: str) -> Make:
    """The function that `module:function` names.

    Raises:
        ConfigError: there is none.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{name!r} cannot be loaded ({error})", "name a function as module:function") from error
    return found


def _place(case: Case, handle: str, folder: Path) -> Path:
    if "id" not in case.tags:
        raise DataError(f"{case.id} refers to {handle} and has no tag `id`", "name the cases of your suite")
    kind = Handle(handle.removeprefix("@")).kind
    return folder / case.tags["id"] / f"{handle.removeprefix('@')}.{'mp4' if kind == 'video' else 'png'}"
