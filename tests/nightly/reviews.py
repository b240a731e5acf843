# ruff: noqa: S311 - nothing here is secret
"""A tiny model that has learned some words, and reviews made of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import torch

from ecner.data.rows import LabelledText
from ecner.labels import Span, TagSet
from ecner.model.checkpoint import Checkpoint
from tests.tiny import tiny
from tests.variants import chain

WORDS = {"HPPX": ["小米", "华为"], "HCCX": ["手机", "耳机"], "XH": ["a1", "b20"], "MISC": ["gh"]}
UNSURE = "ef"  # a brand or nothing: the model says so by its confidence
FILLERS = "真好用不错买了，。cd"
# a text, and two variants of it that make one cluster only by it
BRIDGE = "买了小米手机真好用，不错不错，真cd，买了用了好，用了真好，不错，好用真的买了，cd真不错"
ENDS = chain(BRIDGE, Random(5))
FIRST_DAY = date(2026, 10, 28)
DAYS = 9


def train_tiny(folder: Path, seed: int = 0, steps: int = 25) -> Path:
    """Saves a model of width 16 that has learned WORDS; a second or so."""
    tag_set = TagSet.from_labels(WORDS)
    checkpoint = tiny(tag_set=tag_set, seed=seed)
    random, tagger = Random(seed), checkpoint.tagger.train()
    optimizer = torch.optim.Adam(tagger.parameters(), lr=0.02)
    for _ in range(steps):
        ids, mask, tags = _batch(checkpoint, tag_set, [_labelled(random) for _ in range(32)])
        optimizer.zero_grad()
        tagger(ids, mask, tags).loss.backward()
        optimizer.step()
    checkpoint.save(folder)
    return folder


def _labelled(random: Random) -> tuple[str, list[Span]]:
    text, spans = "", []
    for _ in range(random.randint(1, 4)):
        text += "".join(random.choices(FILLERS, k=random.randint(0, 4)))
        label = random.choice([*WORDS, "unsure"])
        word = UNSURE if label == "unsure" else random.choice(WORDS[label])
        if label != "unsure" or random.random() < 0.5:
            spans.append(Span(len(text), len(text) + len(word), "HPPX" if label == "unsure" else label))
        text += word
    return text, spans


def _batch(checkpoint: Checkpoint, tag_set: TagSet, rows: Sequence[tuple[str, list[Span]]]) -> list[torch.Tensor]:
    longest = max(len(text) for text, _ in rows)
    ids, tags = (torch.zeros(len(rows), longest, dtype=torch.long) for _ in range(2))
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for row, (text, spans) in enumerate(rows):
        ids[row, : len(text)] = torch.from_numpy(checkpoint.vocabulary.encode(text)).long()
        tags[row, : len(text)] = torch.tensor(tag_set.encode(spans, len(text)))
        mask[row, : len(text)] = True
    return [ids, mask, tags]


def labelled_texts(count: int, seed: int = 0) -> list[LabelledText]:
    """Different labelled texts of WORDS."""
    random, texts = Random(seed), dict[str, LabelledText]()
    while len(texts) < count:
        text, spans = _labelled(random)
        texts[text] = LabelledText(text, tuple(spans))
    return list(texts.values())


def make_reviews(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Reviews over nine days; a third of the texts is written more than once, some are longer than a window."""
    random = Random(seed)
    texts = [_text(random) for _ in range(max(1, count * 2 // 3))]
    start = datetime.combine(FIRST_DAY, datetime.min.time(), UTC)
    reviews = []
    for number in range(count):
        created = start + timedelta(minutes=random.randrange(DAYS * 24 * 60))
        reviews.append(
            {
                "review_id": f"R{number:04d}",
                "text": random.choice(texts),
                "product_id": random.choice([None, "p1", "p2", "p3"]),
                "rating": random.choice([None, 1.0, 2.5, 5.0]),
                "created_at": created,
                "updated_at": created,
            }
        )
    return reviews


def _text(random: Random) -> str:
    parts = [
        *FILLERS,
        *(word for words in WORDS.values() for word in words),
        UNSURE,
        "😀",
        "𠮷",
        "Ａ１",
        " ",
        "\n",
        "\u3000",
    ]
    return "好" + "".join(random.choices(parts, k=random.choice([2, 3, 4, 5, 7, 9, 9, 30])))


def bad_rows() -> list[dict[str, Any]]:
    """A row for each rule that can be broken by a value of text."""
    good = {"text": "小米手机", "product_id": "p1", "rating": 1.0, "created_at": None, "updated_at": None}
    return [
        {**good, "review_id": "B1", "text": None},
        {**good, "review_id": "B2", "text": " \u3000\n\u2003"},
        {**good, "review_id": None},
        {**good, "review_id": " "},
        {**good, "review_id": "B\0"},
    ]


def write(path: Path, rows: Sequence[Mapping[str, Any]], **options: Any) -> Path:
    """A Parquet file of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = pl.Datetime("us", "UTC")
    types = {"review_id": pl.String, "text": pl.String, "product_id": pl.String, "rating": pl.Float64}
    times = {"created_at": time, "updated_at": time}
    known = {name: dtype for name, dtype in {**types, **times}.items() if any(name in row for row in rows)}
    pl.DataFrame(list(rows), schema_overrides=known, infer_schema_length=None).write_parquet(path, **options)
    return path
