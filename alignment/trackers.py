"""Where a run's metrics and samples are shown, besides its folder: TensorBoard, or others by accelerate's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.fit import Progress
from palate.errors import ConfigError


class Trackers:
    """Told of every step by the first process. Raises ConfigError for an unknown name, or one that is not installed."""

    def __init__(self, names: tuple[str, ...], folder: Path, told: Mapping[str, object]) -> None:
        self._open: list[Any] = []
        if not names:
            return
        try:
            from accelerate import PartialState
            from accelerate.tracking import LOGGER_TYPE_TO_CLASS
        except ImportError as error:
            raise ConfigError(
                "trackers need accelerate", "run pip install 'palate[align]', or set trackers=[]"
            ) from error
        PartialState()  # trackers ask it which process this is
        for name in names:
            if name not in LOGGER_TYPE_TO_CLASS:
                raise ConfigError(
                    f"trackers: {name!r} is none", f"choose among {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}"
                )
            kind = LOGGER_TYPE_TO_CLASS[name]
            where = {"logging_dir": folder} if kind.requires_logging_directory else {}
            try:
                tracker = kind(folder.resolve().name, **where)
                tracker.start()
            except ImportError as error:
                raise ConfigError(
                    f"trackers: {name} is not installed ({error})", "install it, or name another"
                ) from error
            tracker.store_init_configuration({key: str(value) for key, value in told.items()})
            self._open.append(tracker)

    def __call__(self, progress: Progress) -> None:
        for tracker in self._open:
            tracker.log({"loss": progress.loss, **progress.metrics}, step=progress.step)

    def show(self, pictures: Mapping[str, NDArray[np.uint8]], step: int) -> None:
        """Pictures (height, width, 3) by name, to the trackers that show any."""
        for tracker in self._open:
            if hasattr(tracker, "log_images"):
                order = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({name: picture[None] for name, picture in pictures.items()}, step=step, **order)

    def close(self) -> None:
        for tracker in self._open:
            tracker.finish()
