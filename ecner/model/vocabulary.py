"""Characters to ids: one position per code point, all looked up in one table, unknown ones included."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_CODE_POINTS = 0x110000
_IDEOGRAPHS = range(0x3400, 0xA000)  # fold to nothing but themselves
_SURROGATES = (0xD800, 0xDFFF)
PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
WHITE_SPACE = "[SPACE]"  # a tokenizer's vocabulary has no entry for it, yet a space parts words in reviews


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of an encoder in the order of their ids; only those of one character are ever looked up."""

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks that the special tokens are there."""
        if missing := [t for t in (PAD, UNKNOWN, START, END) if t not in self.ids]:
            raise ValueError(f"the vocabulary of {len(self.tokens)} tokens lacks {', '.join(missing)}")

    @cached_property
    def ids(self) -> dict[str, int]:
        """Id of each token."""
        return {token: i for i, token in enumerate(self.tokens)}

    @cached_property
    def table(self) -> NDArray[np.int32]:
        """Id of each code point: its own, else that of its folded form (width, case), else [UNK]'s.

        *Shape:* (0x110000,)
        """
        unknown = self.ids[UNKNOWN]
        space = self.ids.get(WHITE_SPACE, unknown)
        table = np.full(_CODE_POINTS, unknown, dtype=np.int32)
        for point in range(0x10000):
            character = chr(point)
            if character.isspace():
                table[point] = space
            elif point not in _IDEOGRAPHS:
                table[point] = next((self.ids[f] for f in _foldings(character) if f in self.ids), unknown)
        for token, i in self.ids.items():
            if len(token) == 1 and not token.isspace():
                table[ord(token)] = i
        return table

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of a text's characters. *Shape:* (len(text),)."""
        return self.table[code_points(text)]

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """The vocabulary in a vocab.txt: one token a line."""
        return cls(tuple(path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")))

    def write(self, path: Path) -> None:
        """Writes a vocab.txt that ``read`` and BertTokenizer understand."""
        path.write_text("\n".join(self.tokens) + "\n", "utf-8", newline="\n")


def code_points(text: str) -> NDArray[np.uint32]:
    """Code points of a text; lone surrogates are code points like others. *Shape:* (len(text),)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def is_unreadable(points: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which code points can stand in no mention: NUL and lone surrogates, as no database holds them."""
    low, high = _SURROGATES
    unreadable: NDArray[np.bool_] = (points == 0) | ((points >= low) & (points <= high))
    return unreadable


def _foldings(character: str) -> Sequence[str]:
    """Forms to look a character up by, nearest first."""
    narrow = unicodedata.normalize("NFKC", character)
    return character, narrow, narrow.lower(), narrow.upper(), unicodedata.normalize("NFKD", character)[:1]
