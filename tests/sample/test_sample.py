from itertools import pairwise

import polars as pl
from polars.testing import assert_frame_equal

from ecner.data.corpus import read_corpus
from ecner.resources import asset
from tests.sample.build import sample_frame

LABELLED = asset("sample/reviews.jsonl")
CATEGORIES = {"phone", "laptop", "appliance", "cosmetics", "clothes", "food", "baby"}


def test_every_row_is_well_formed_and_there_are_enough() -> None:
    corpus = read_corpus(LABELLED, strict=True)
    assert len(corpus.texts) >= 300
    assert len({row.text for row in corpus.texts}) == len(corpus.texts)
    assert corpus.labels == ("HCCX", "HPPX", "MISC", "XH")
    assert sum(len(row.text) > 600 for row in corpus.texts) >= 3


def test_all_categories_are_there_with_praise_and_complaints() -> None:
    rows = pl.read_ndjson(LABELLED)
    by_category = rows.group_by("category").agg(
        pl.len(), pl.col("rating").min().alias("low"), pl.col("rating").max().alias("high")
    )
    assert set(by_category["category"]) == CATEGORIES
    assert by_category["len"].min() >= 30
    assert (by_category["low"] <= 2).all()
    assert (by_category["high"] == 5).all()


def test_mentions_keep_the_written_rules_that_a_program_can_check() -> None:
    for row in read_corpus(LABELLED).texts:
        for span in row.spans:
            surface = row.text[span.start : span.end]
            assert surface == surface.strip(" 　，。！？、；：,.!?;:~…"), surface
        for left, right in pairwise(row.spans):
            assert left.end <= right.start


def test_a_brand_is_never_left_out_where_it_stands_again_in_the_same_review() -> None:
    for row in read_corpus(LABELLED).texts:
        marked = {i for span in row.spans for i in range(span.start, span.end)}
        for span in row.spans:
            surface = row.text[span.start : span.end]
            if span.label != "HPPX" or len(surface) < 2:
                continue
            at = row.text.find(surface)
            while at >= 0:
                assert at in marked, (surface, row.text)
                at = row.text.find(surface, at + 1)


def test_the_parquet_file_holds_the_same_reviews() -> None:
    assert_frame_equal(pl.read_parquet(asset("sample/reviews.parquet")), sample_frame(LABELLED))
