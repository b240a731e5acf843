"""Texts as people change what they copy: characters put in, left out, or replaced by others."""

from random import Random

import polars as pl

from ecner.data.sketches import agreement, sketch_texts
from ecner.nightly.clusters import LEAST_AGREEMENT

COMMON = (
    "的了是我不在有这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用"
    "道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实"
)


def edited(text: str, edits: int, random: Random) -> str:
    """The text with some edits of one character each, at different places."""
    characters = list(text)
    for place in random.sample(range(len(characters)), edits):
        kind = random.choice(["insert", "delete", "replace"])
        if kind == "insert":
            characters[place] += random.choice(COMMON)
        else:
            characters[place] = "" if kind == "delete" else random.choice(COMMON)
    return "".join(characters)


def alike(left: str, right: str) -> bool:
    """Whether two texts are a pair that makes a cluster: they agree enough, and share a band."""
    first, second = sketch_texts(pl.Series([left, right])).to_numpy().copy()
    return agreement(first[None], second[None]).item() >= LEAST_AGREEMENT and bool((first == second).any())


def chain(middle: str, random: Random) -> tuple[str, str]:
    """Two variants that are alike the text in the middle, and not each other."""
    half, edits = len(middle) // 2, len(middle) // 8
    while True:
        first = edited(middle[:half], edits, random) + middle[half:]
        last = middle[:half] + edited(middle[half:], edits, random)
        if alike(first, middle) and alike(last, middle) and not alike(first, last):
            return first, last
