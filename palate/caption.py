"""The structured caption of Any2Caption: the six parts in which a generator is told a video.

{"dense": "...", "main_object": "...", "background": "...", "camera": "...", "style": "...", "action": "..."}
"""

import json
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from palate.errors import DataError

Part = Literal["dense", "main_object", "background", "camera", "style", "action"]
PARTS: tuple[Part, ...] = get_args(Part)
Told = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Caption(BaseModel):
    """All six parts, each of some text, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dense: Told
    main_object: Told
    background: Told
    camera: Told
    style: Told
    action: Told

    @property
    def parts(self) -> dict[Part, str]:
        return {part: getattr(self, part) for part in PARTS}

    @property
    def text(self) -> str:
        """The parts in their order, a line each."""
        return "\n".join(self.parts.values())


def read(reply: str) -> Caption:
    """The caption in a reply, which may stand in a code fence or among other words.

    Raises:
        DataError: there is none in it; says which part is missing, empty or too many.
    """
    try:
        return Caption.model_validate_json(_object(reply))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'reply'}: {one['msg']}" for one in error.errors())
        raise DataError(f"no caption of six parts ({faults})", "ask for the JSON object and nothing else") from error


def integrity(reply: str) -> int:
    """How many of the six parts stand in a reply with some text; 0 where it holds no JSON object."""
    try:
        found = json.loads(_object(reply))
    except ValueError:
        return 0
    return sum(isinstance(found.get(part), str) and bool(found[part].strip()) for part in PARTS)


def _object(reply: str) -> str:
    """From the first brace to the last."""
    return reply[max(reply.find("{"), 0) : reply.rfind("}") + 1]
