"""A folder with all that a night and a retrain need: settings, labels, reviews, and a small model that leads."""

# ruff: noqa: S311 - nothing here is secret
import json
from pathlib import Path
from random import Random
from typing import Any

from ecner.config import Settings, load_settings
from ecner.retraining.promotion import promote
from ecner.storage.warehouse import Warehouse
from tests.nightly.reviews import FILLERS, WORDS, make_reviews, train_tiny, write

CONFIG = "nightly.yaml"  # as configs/prefect.yaml has it
SHORT = {"base": "champion", "epochs": 1, "batch_chars": 512, "overlap_reviews": 20, "lora": {"r": 2}}


def settle(folder: Path, **sections: dict[str, Any]) -> Settings:
    """Makes the folder; its paths are relative, so that whoever uses them must be there."""
    write(folder / "reviews.parquet", make_reviews(60))
    for number, (name, count) in enumerate({"train": 60, "dev": 20, "test": 20}.items()):
        (folder / f"{name}.jsonl").write_text(labelled(count, number), "utf-8")
    files = {name: [f"{name}.jsonl"] for name in ("train", "dev", "test")}
    values = {
        "source": {"uri": "reviews.parquet"},
        "model": {"device": "cpu"},
        "run": {"shards": 2},
        "train": SHORT | files,
    }
    (folder / CONFIG).write_text(json.dumps(values | sections))
    return load_settings(folder / CONFIG, {})


def crown(settings: Settings, folder: Path, seed: int = 0) -> str:
    """Makes a small model champion, and says which."""
    return promote(settings, str(train_tiny(folder, seed))).version


def labelled(count: int, seed: int) -> str:
    """Texts of the words that the small model knows, in JSONL."""
    random = Random(seed)
    return "".join(f"{json.dumps(_row(random), ensure_ascii=False)}\n" for _ in range(count))


def _row(random: Random) -> dict[str, Any]:
    text, entities = "", []
    for label in random.choices([*WORDS], k=random.randint(1, 4)):
        text += "".join(random.choices(FILLERS, k=random.randint(1, 6)))
        word = random.choice(WORDS[label])
        place = {"start_idx": len(text), "end_idx": len(text) + len(word)}
        text += word
        entities.append({**place, "entity_text": word, "entity_label": label})
    return {"text": text, "entities": entities}


def read(settings: Settings, table: str) -> Any:
    """A table of the warehouse."""
    with Warehouse(*settings.warehouse_at).connect() as reader:
        return reader.read(table)
