"""Canonical names: what an entity is counted under, whatever its surface looks like."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import opencc
import polars as pl
import yaml

from ecner.errors import UsageError

RULES = 1  # grows with every change of what ``normalised`` and ``plain`` do
_MODEL_NUMBER = "model_number"
_CJK = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SPACE_BESIDE_CJK = re.compile(f"(?<=[{_CJK}]) | (?=[{_CJK}])")
_SEPARATORS = re.compile("[ \\-_\u00b7\u2010-\u2015\u2212\u30fb]+")

Names = Mapping[str, Mapping[str, str]]  # entity type: {name: canonical}


def normalised(surface: str) -> str:
    """NFKC, case-folded, white space collapsed; the surface itself where that leaves nothing."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", surface).casefold())
    return " ".join(folded.split()) or surface


def plain(entity_type: str, name: str) -> str:
    """A normalised name in its plainest form, by rules that never make one name of two entities.

    White space beside a Chinese character says nothing, so 联 想 is 联想; traditional characters become simplified ones
    (OpenCC's t2s); a model number loses its separators, sk-ii and sk ii becoming skii, but for those between two
    digits, which become one hyphen: 10-20 is not 1020.
    """
    name = _simplified().convert(_SPACE_BESIDE_CJK.sub("", name))
    if entity_type != _MODEL_NUMBER:
        return name
    return _SEPARATORS.sub(_between_digits, name) or name


def _between_digits(found: re.Match[str]) -> str:
    around = found.string[max(found.start() - 1, 0) : found.start()], found.string[found.end() : found.end() + 1]
    return "-" if all(map(str.isdigit, around)) else ""


@lru_cache(maxsize=1)
def _simplified() -> opencc.OpenCC:
    return opencc.OpenCC("t2s")


@dataclass(frozen=True)
class Lexicon:
    """Aliases by entity type: normalised alias to canonical name; ``links`` are those that people decided on."""

    names: Names
    links: Names = field(default_factory=dict)

    def linked(self, links: Names) -> "Lexicon":
        """The same lexicon under other decisions."""
        return replace(self, links=links)

    @classmethod
    def read(cls, path: Path) -> "Lexicon":
        """The lexicon of a YAML file: ``entity_type: {canonical: [alias, ...]}``.

        Raises:
            UsageError: the file cannot be read, has another shape, or gives one alias to two names.
        """
        try:
            loaded = yaml.safe_load(path.read_text("utf-8")) or {}
        except OSError as error:
            raise UsageError(f"cannot read the lexicon {path}: {error.strerror}; name an existing file") from None
        except (ValueError, yaml.YAMLError) as error:
            # PyYAML's own message quotes the line, and another file than a lexicon may have been named
            mark = getattr(error, "problem_mark", None)
            where = f": line {mark.line + 1}, {getattr(error, 'problem', None)}" if mark else ""
            raise UsageError(f"cannot read the lexicon {path}: it is not YAML in UTF-8{where}; mend it") from None
        names: dict[str, dict[str, str]] = {}
        problems: list[str] = []
        for entity_type, canonical, alias in _entries(path, loaded):
            known = names.setdefault(entity_type, {}).setdefault(normalised(alias), normalised(canonical))
            if known != normalised(canonical):
                problems.append(f"{entity_type} {alias!r} is given to both {known!r} and {canonical!r}")
        if problems:
            raise UsageError(
                f"the lexicon {path} contradicts itself: {'; '.join(problems)}; keep one name for each alias"
            )
        return cls(names)

    def canonical(self, entity_type: str, surface: str) -> str:
        """The name that a surface of a type is counted under: by rules, then the lexicon, then decisions."""
        name = self.name(entity_type, surface)
        return self.links.get(entity_type, {}).get(name, name)

    def name(self, entity_type: str, surface: str) -> str:
        """The name of a surface before any decision."""
        name = normalised(surface)
        if (known := self.names.get(entity_type, {}).get(name)) is not None:
            return known
        name = plain(entity_type, name)
        return self._plain_names.get(entity_type, {}).get(name, name)

    @cached_property
    def _plain_names(self) -> Names:
        """Aliases in their plainest form; where two would be one, neither decides for the other."""
        return {kind: _unambiguous(kind, aliases) for kind, aliases in self.names.items()}

    def add_canonical(self, mentions: pl.DataFrame) -> pl.DataFrame:
        """Adds ``canonical`` to a frame with ``entity_type`` and ``surface``; each distinct pair is worked out once."""
        pairs = mentions.select("entity_type", "surface").unique()
        named = pairs.with_columns(
            canonical=pl.Series([self.canonical(*pair) for pair in pairs.iter_rows()], dtype=pl.String)
        )
        return mentions.join(named, on=["entity_type", "surface"], how="left", maintain_order="left")

    def to_json(self) -> str:
        """The same text for the same names, decisions apart: they are published as they are made."""
        return json.dumps([RULES, self.names], sort_keys=True, ensure_ascii=False)


def _unambiguous(entity_type: str, aliases: Mapping[str, str]) -> Mapping[str, str]:
    meant: dict[str, set[str]] = {}
    for alias, canonical in aliases.items():
        meant.setdefault(plain(entity_type, alias), set()).add(canonical)
    return {alias: next(iter(names)) for alias, names in meant.items() if len(names) == 1}


def _entries(path: Path, loaded: Any) -> list[tuple[str, str, str]]:
    """All (entity type, canonical, alias); a canonical name is an alias of its own."""
    shape = f"the lexicon {path} has another shape: expected entity_type: {{canonical: [alias, ...]}}"
    if not isinstance(loaded, dict):
        raise UsageError(shape)
    found: list[tuple[str, str, str]] = []
    for entity_type, names in loaded.items():
        if not isinstance(names, dict):
            raise UsageError(f"{shape}, got {type(names).__name__} under {entity_type}")
        for canonical, aliases in names.items():
            if not isinstance(aliases, list | None):
                raise UsageError(f"{shape}, got {type(aliases).__name__} under {entity_type}.{canonical}")
            found.extend((entity_type, canonical, alias) for alias in [canonical, *(aliases or [])])
    if other := [value for entry in found for value in entry if not isinstance(value, str)]:
        raise UsageError(f"the lexicon {path} holds {other[0]!r} where text is expected: put it in quotes")
    return found
