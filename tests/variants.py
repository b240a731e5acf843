"""Texts as people change what they copy: characters put in, left out, or replaced by others."""

from random import Random

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
