"""Canonical names: what an entity is counted under, whatever its surface looks like."""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from ecner.errors import UsageError


def normalised(surface: str) -> str:
    """NFKC, case-folded, white space collapsed; the surface itself where that leaves nothing."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", surface).casefold())
    return " ".join(folded.split()) or surface


@dataclass(frozen=True)
class Lexicon:
    """Aliases by entity type: normalised alias to canonical name."""

    names: Mapping[str, Mapping[str, str]]

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
        """The name that a surface of a type is counted under."""
        name = normalised(surface)
        return self.names.get(entity_type, {}).get(name, name)

    def add_canonical(self, mentions: pl.DataFrame) -> pl.DataFrame:
        """Adds ``canonical`` to a frame with ``entity_type`` and ``surface``; each distinct pair is worked out once."""
        pairs = mentions.select("entity_type", "surface").unique()
        named = pairs.with_columns(
            canonical=pl.Series([self.canonical(*pair) for pair in pairs.iter_rows()], dtype=pl.String)
        )
        return mentions.join(named, on=["entity_type", "surface"], how="left", maintain_order="left")

    def to_json(self) -> str:
        """The same text for the same names."""
        return json.dumps(self.names, sort_keys=True, ensure_ascii=False)


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
