"""Evidence: the same whatever the pages that it is read in, and of texts that reviews have alone."""

from functools import partial

import polars as pl
from polars.testing import assert_frame_equal

from ecner.config import ModelSettings
from ecner.linking import evidence
from ecner.linking.evidence import NAME, PAIR, gather
from ecner.nightly.names import Lexicon
from ecner.nightly.rules import Rules
from tests.linking.spans import publish_spans

SHOWN = {"names": NAME, "met": PAIR, "slots": PAIR}


def test_folding_on_the_way_changes_nothing(warehouse, monkeypatch):
    publish_spans(warehouse, seed=3)
    rules = Rules(ModelSettings(), Lexicon({}))
    with warehouse.connect() as reader:
        whole = gather(reader, rules)
        monkeypatch.setattr(reader, "stream", partial(reader.stream, size=7))
        monkeypatch.setattr(evidence, "_FOLDED_FROM", 5)
        paged = gather(reader, rules)
    for name, key in SHOWN.items():
        counts = getattr(whole, name)
        assert len(counts) > 10
        assert_frame_equal(counts.sort(key), getattr(paged, name).sort(key))


def test_texts_without_reviews_and_former_readings_are_no_evidence(warehouse):
    reviews = publish_spans(warehouse, seed=4)
    rules = Rules(ModelSettings(), Lexicon({}))
    with warehouse.begin() as transaction:
        before = gather(transaction, rules)
        gone = reviews.filter(pl.col("text_hash") < "3")
        transaction.delete("review_coverage", "review_id", gone["review_id"])
        after = gather(transaction, rules)
        transaction.delete("text_spans", "text_hash", gone["text_hash"])
        transaction.delete_all("text_spans", {"fingerprint": "former"})
        cleaned = gather(transaction, rules)
    assert before.names["text_count"].sum() > after.names["text_count"].sum() > 0
    for name, key in SHOWN.items():
        assert_frame_equal(getattr(after, name).sort(key), getattr(cleaned, name).sort(key))
