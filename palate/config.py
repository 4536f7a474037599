"""Settings: a recipe in TOML, overrides from the command line, and the frozen pydantic model they must fit."""

import difflib
import json
import tomllib
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from palate.errors import ConfigError

Tables = dict[str, Any]
Keys = tuple[str, ...]
S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """What a piece of work is told. Frozen, and strict: no key it does not know, no text where a number belongs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def load(schema: type[S], recipe: Path | None = None, overrides: Sequence[str] = ()) -> S:
    """Settings from the defaults, then the recipe, then overrides such as `fit.steps=100`, each over the one before.

    An override's value is read as TOML (`0.1`, `true`, `["a", "b"]`), and as text where it is no TOML.

    Raises:
        ConfigError: a file that cannot be read, or values that do not fit; names every field at fault.
    """
    tables = _read(recipe) if recipe else {}
    overridden = [_override(tables, text) for text in overrides]
    try:
        return _fitted(schema, tables)
    except ValidationError as error:
        problems = [_problem(schema, fault, recipe, overridden) for fault in error.errors()]
        raise ConfigError("; ".join(problems), "correct the value and run the command again") from error


def dump(settings: Settings) -> str:
    """The settings as TOML that `load` reads back to an equal object.

    Raises:
        ConfigError: a field is None where its default is not, which TOML cannot say.
    """
    text = tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
    if _fitted(type(settings), tomllib.loads(text)) != settings:
        raise ConfigError(f"{type(settings).__name__} holds a None that TOML cannot say", "make None its default")
    return text


def _fitted(schema: type[S], tables: Tables) -> S:
    # By way of JSON, because strict JSON admits what TOML can say: a list for a tuple, a word for an enumeration.
    return schema.model_validate_json(json.dumps(_over(_defaults(schema), tables), default=_text_of_time))


def _defaults(schema: type[Settings]) -> Tables:
    """The tables that have a default of their own, so that naming one key of a table keeps the others."""
    return _tables(schema, {name: field.default for name, field in schema.model_fields.items()})


def _tables(schema: type[Settings], values: dict[str, Any]) -> Tables:
    """Those of `values` that are tables. Not those that may be of several kinds, at any depth: another kind knows other
    keys."""
    return {
        name: _told(value)
        for name, value in values.items()
        if isinstance(value, Settings) and schema.model_fields[name].annotation is type(value)
    }


def _told(settings: Settings) -> Tables:
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    plain = settings.model_dump(mode="json", exclude={name for name in values if isinstance(values[name], Settings)})
    return plain | _tables(type(settings), values)


def _over(tables: Tables, new: Tables) -> Tables:
    """`new` laid over `tables`, table by table."""
    merged = dict(tables)
    for key, value in new.items():
        old = merged.get(key)
        merged[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _read(recipe: Path) -> Tables:
    try:
        return tomllib.loads(recipe.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{recipe} cannot be read ({error.strerror})", "check the name of the recipe") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{recipe} is not TOML ({error})", "correct that place") from error


def _override(tables: Tables, text: str) -> Keys:
    """Set one `key.sub=value` in `tables`; returns the keys."""
    name, equals, value = text.partition("=")
    *path, last = keys = tuple(key.strip() for key in name.split("."))
    if not equals or not all(keys):
        raise ConfigError(f"override {text!r} is not key=value", "write it as fit.steps=100")
    for depth, key in enumerate(path):
        tables = tables.setdefault(key, {})
        if not isinstance(tables, dict):
            raise ConfigError(f"override {text!r}: {'.'.join(path[: depth + 1])} is no table", "override it itself")
    tables[last] = _value(value.strip())
    return keys


def _value(text: str) -> object:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text  # a line break may smuggle in a second key


def _text_of_time(value: object) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    raise TypeError(f"TOML holds no {type(value).__name__}")


def _problem(schema: type[BaseModel], fault: Any, recipe: Path | None, overridden: Sequence[Keys]) -> str:
    keys = tuple(str(part) for part in fault["loc"])
    if any(all(one == other for one, other in zip(keys, override)) for override in overridden if keys):
        place = "override"
    else:
        place = str(recipe) if recipe else "settings"
    field = ".".join(keys) or "the whole"
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _fields(schema, keys[:-1]), n=1)
        return f"{place}: {field} is no setting" + (f", did you mean {near[0]}?" if near else "")
    given = "" if fault["type"] == "missing" or isinstance(fault["input"], dict) else f", not {fault['input']!r}"
    return f"{place}: {field}: {fault['msg']}{given}".replace("\n", " ")


def _fields(schema: type[BaseModel], keys: Keys) -> list[str]:
    """The names that may stand in the table at `keys`."""
    models = [schema]
    for key in keys:
        fields = [model.model_fields[key].annotation for model in models if key in model.model_fields]
        # A key that names no field is an index, or the name of one branch of a union: the same models still hold.
        models = [inner for annotation in fields for inner in _models(annotation)] if fields else models
    return [name for model in models for name in model.model_fields]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
