"""How likely two names of a type are one entity, by how they are written, how they sound, and where they stand.

Nothing is linked by a score: it orders what people are asked. Each kind has a score of its own, from 0 to 1.

spelling    names in one script that differ by an edit or two (optimal string alignment), by white space and marks, or,
            of model numbers, by letters that look like digits. Digits have to be the same: x200 is not x201
sound       Chinese names with the same syllables, and Latin names that are a Chinese one's syllables or their initials
together    a Latin and a Chinese name that stand beside each other, Lenovo/联想, or in the same slots; the more of the
            rarer one's mentions do, and the more alike they sound, the higher the score
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import polars as pl
from pypinyin import lazy_pinyin
from rapidfuzz import fuzz
from rapidfuzz.distance import OSA

LEAST_SCORE = 0.5
EVIDENCE = ("rarer_count", "together_count", "adjacent_count", "shared_slots")
_MODEL_NUMBER = "model_number"
_CHINESE = re.compile("[\u3400-\u9fff]")
_NOT_A_LETTER = re.compile(r"(?:[^\w+#]|_)+")  # c++ and c# are not c
_AS_DIGITS = str.maketrans("oil", "011")
_DIGITS = re.compile(r"\d+")
_SAME_LETTERS, _SAME_SYLLABLES, _ALIKE_DIGITS, _SAME_INITIALS = 0.97, 0.9, 0.9, 0.6
_SHORT, _LONG = 5, 9  # letters of a name
_DOUBT_BESIDE, _DOUBT_SLOTS = 1.2, 4  # texts and slots that count as if they said nothing: once is no evidence
_CHANCE, _ALIKE = 0.4, 0.8  # similarity of sound of two names at random, and of two that sound alike


def scored(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with ``kind`` and ``score``, the best of each.

    Args:
        pairs: entity_type, alias, canonical and EVIDENCE: texts with the rarer of the two, with both, with both
            side by side, and slots that both stand in.
    """
    columns = ["entity_type", "alias", "canonical", *EVIDENCE]
    judged = [_judge(*row) for row in pairs.select(columns).iter_rows()]
    kinds = pl.DataFrame(judged, schema={"kind": pl.String, "score": pl.Float64}, orient="row")
    return pl.concat([pairs, kinds], how="horizontal")


def is_chinese(name: str) -> bool:
    """Whether a name has a Chinese character."""
    return _CHINESE.search(name) is not None


@lru_cache(maxsize=100_000)
def letters(name: str) -> str:
    """A name without white space, punctuation and accents; the name itself where that leaves nothing."""
    bare = "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))
    return _NOT_A_LETTER.sub("", bare) or name


@lru_cache(maxsize=100_000)
def syllables(name: str) -> Sequence[str]:
    """A name's syllables in pinyin without tones; what is not Chinese stays as it is."""
    return tuple(lazy_pinyin(name))


def _judge(kind: str, alias: str, canonical: str, *evidence: int) -> tuple[str, float]:
    if is_chinese(alias) != is_chinese(canonical):
        chinese, latin = (alias, canonical) if is_chinese(alias) else (canonical, alias)
        alike = sound(chinese, latin)
        found = {"sound": alike, "together": _together(alike, *evidence)}
    elif is_chinese(alias):
        found = {"spelling": spelling(kind, alias, canonical), "sound": _homophones(alias, canonical)}
    else:
        found = {"spelling": spelling(kind, alias, canonical)}
    return max(found.items(), key=lambda item: item[1])


def spelling(entity_type: str, left: str, right: str) -> float:
    """How alike two names of one script are written."""
    if entity_type == _MODEL_NUMBER and _as_digits(left) == _as_digits(right):
        return _ALIKE_DIGITS
    if _DIGITS.findall(left) != _DIGITS.findall(right):
        return 0.0
    a, b = letters(left), letters(right)
    if a == b:
        return _SAME_LETTERS
    if entity_type == _MODEL_NUMBER or is_chinese(left):
        return 0.0
    distance = OSA.distance(a, b)
    return 1 - distance / len(min(a, b, key=len)) if distance <= _edits_allowed(a, b) else 0.0


def _edits_allowed(left: str, right: str) -> int:
    """How many edits make a slip of one name: none of a short one, in which another letter makes another name."""
    shorter = min(len(left), len(right))
    if shorter == _SHORT:  # a letter left out, doubled, or in the wrong place
        return int(len(left) != len(right) or sorted(left) == sorted(right))
    return (shorter > _SHORT) + (shorter >= _LONG)


def sound(chinese: str, latin: str) -> float:
    """How alike a Chinese and a Latin name sound: 1 where the one is the other in pinyin."""
    spoken, written = syllables(chinese), letters(latin)
    if len(spoken) > 1 and written == "".join(syllable[0] for syllable in spoken):
        return _SAME_INITIALS
    similarity = fuzz.ratio("".join(spoken), written) / 100
    return min(max((similarity - _CHANCE) / (_ALIKE - _CHANCE), 0.0), 1.0)


def _homophones(left: str, right: str) -> float:
    spoken = syllables(left), syllables(right)
    return _SAME_SYLLABLES if spoken[0] == spoken[1] and len(spoken[0]) > 1 else 0.0


def _together(alike: float, count: int, together: int, adjacent: int, slots: int) -> float:
    """Chance that both the places and the sounds mislead, taken from 1; 0 where the two never meet."""
    if not together and not slots:
        return 0.0
    beside = adjacent / (count + _DOUBT_BESIDE)
    same_slots = slots / (slots + _DOUBT_SLOTS)
    return 1 - (1 - beside) * (1 - alike) * (1 - same_slots)


def _as_digits(name: str) -> str:
    return name.translate(_AS_DIGITS)
