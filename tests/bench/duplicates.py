"""Near-duplicates on real reviews with planted variants, and the cost of a night beside a long history.

    python -m tests.bench.duplicates ../shared/data/reviews [--variants 2000] [--history 1000000] [--new 5000]
        [--campaign 20000]

Plants variants of different reviews, each with 1 to 10% of its characters put in, left out or replaced, and puts
reviews and variants into clusters in two nights. Recall: of variants with at most 5% edits, those in the cluster of
their review. Precision: of the pairs of a variant and any other text of its cluster, those of which one is planted on
the other, or both on the same, or that are alike by themselves: no more than a fifth of the characters of the longer
one apart (Levenshtein). Exits with 1 below a recall of 0.95 or a precision of 0.98.

--campaign then times two nights of one text, half of its variants each, that differ in a number. --history fills a
warehouse with texts of sentences drawn from the reviews, and times a night of new ones. Over 60 s for either is a
failure; 0 leaves it out. The peak of memory is that of all the process so far.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import polars as pl
from rapidfuzz.distance import Levenshtein

from ecner.data.hashes import hash_texts
from ecner.nightly.clusters import add_texts, sketches_of
from ecner.storage.query import run_query
from ecner.storage.warehouse import Warehouse
from tests.variants import edited

_SHORTEST = 20  # characters: below, one edit is more than 5%
_LEAST_ALIKE = 0.8
_AT_ONCE = 50_000


def main() -> None:
    """Plants, clusters, judges, and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("--variants", type=int, default=2_000)
    parser.add_argument("--campaign", type=int, default=20_000)
    parser.add_argument("--history", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=5_000)
    options = parser.parse_args()
    texts = pl.read_parquet(f"{options.reviews}/**/*.parquet")["text"].unique(maintain_order=True)
    holds = _planted(texts, options.variants)
    if options.campaign:
        holds &= _campaign(options.campaign)
    if options.history:
        holds &= _timed(texts, options.history, options.new)
    sys.exit(not holds)


def _frame(texts: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"text_hash": hash_texts(pl.Series(texts)), "text": texts}).unique(
        "text_hash", maintain_order=True
    )


def _planted(texts: pl.Series, count: int) -> bool:
    random = Random(0)  # noqa: S311
    long = texts.filter(texts.str.len_chars() >= _SHORTEST).to_list()
    planted = []
    for text in random.sample(long, count):
        edits = max(1, round(len(text) * random.uniform(0.01, 0.1)))
        planted.append({"text": edited(text, edits, random), "origin": text, "share": edits / len(text)})
    variants = pl.DataFrame(planted).filter(~pl.col("text").is_in(texts.implode())).unique("text", maintain_order=True)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/warehouse.db"
        warehouse = Warehouse(url)
        warehouse.migrate()
        for night in (texts.to_list(), variants["text"].to_list()):
            with warehouse.begin() as transaction:
                add_texts(transaction, sketches_of(_frame(night)))
        clusters = run_query(url, None, "select text_hash, cluster_id from text_clusters")
    everyone = pl.concat([_frame(texts.to_list()), _frame(variants["text"].to_list())]).join(clusters, on="text_hash")
    return _judged(everyone.select("text", "cluster_id"), variants)


def _judged(everyone: pl.DataFrame, variants: pl.DataFrame) -> bool:
    named = variants.join(everyone, on="text").join(everyone, left_on="origin", right_on="text", suffix="_origin")
    found = named.with_columns(is_found=pl.col("cluster_id") == pl.col("cluster_id_origin"))
    bins = found.group_by(percent=(pl.col("share") * 100).ceil().cast(int)).agg(
        pl.len(), recall=pl.col("is_found").mean()
    )
    print(bins.sort("percent"))
    recall = found.filter(pl.col("share") <= 0.05)["is_found"].mean()
    pairs = named.select("text", "origin", "cluster_id").join(everyone, on="cluster_id", suffix="_other")
    pairs = pairs.filter(pl.col("text") != pl.col("text_other")).join(
        variants.select(text_other="text", origin_other="origin"), on="text_other", how="left"
    )
    planted = (pl.col("origin") == pl.col("text_other")) | (pl.col("origin") == pl.col("origin_other")).fill_null(
        value=False
    )
    others = pairs.filter(~planted)
    alike = [
        Levenshtein.normalized_similarity(*row) >= _LEAST_ALIKE
        for row in others.select("text", "text_other").iter_rows()
    ]
    precision = 1 - (len(alike) - sum(alike)) / len(pairs)
    print(f"recall up to 5% edits {recall:.4f}")
    print(f"{len(pairs):,} pairs, {len(alike)} not planted, {sum(alike)} of them alike")
    for row in others.filter(~pl.Series(alike, dtype=pl.Boolean)).head(5).select("text", "text_other").iter_rows():
        print("  not alike:", *(text[:60] for text in row), sep="\n    ")
    print(f"precision {precision:.4f}")
    return recall >= 0.95 and precision >= 0.98


def _campaign(count: int) -> bool:
    template = "收到了，很满意，物流很快，包装很好，下次还会再来购买的，推荐给大家，订单编号{:06d}"
    sketches = sketches_of(_frame([template.format(number) for number in range(count)]))
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(f"sqlite:///{folder}/warehouse.db")
        warehouse.migrate()
        began = time.perf_counter()
        for night in (sketches[::2], sketches[1::2]):
            with warehouse.begin() as transaction:
                add_texts(transaction, night)
        spent = time.perf_counter() - began
    print(f"a campaign of {count:,} texts in two nights: {spent:.1f} s for clusters, at most {_peak():,.0f} MB")
    return spent < 60


def _timed(texts: pl.Series, history: int, new: int) -> bool:
    random = Random(1)  # noqa: S311
    sentences = [part for text in texts for part in text.split("，") if len(part) > 3]
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(f"sqlite:///{folder}/warehouse.db")
        warehouse.migrate()
        began, written = time.perf_counter(), 0
        while written < history:
            count = min(_AT_ONCE, history - written)
            # nobody is alike by chance here, so that the history can be written without looking at itself
            rows = sketches_of(_frame(["，".join(random.choices(sentences, k=5)) for _ in range(count)]))
            with warehouse.begin() as transaction:
                transaction.append_missing("text_clusters", rows.with_columns(cluster_id="text_hash"))
            written += count
        spent, size = time.perf_counter() - began, _size(folder) / history
        print(f"a history of {history:,} texts: {spent:.0f} s, {size:.0f} bytes a text")
        night = _frame(["，".join(random.choices(sentences, k=5)) for _ in range(new)])
        began = time.perf_counter()
        sketches = sketches_of(night)
        sketched = time.perf_counter()
        with warehouse.begin() as transaction:
            add_texts(transaction, sketches)
        ended = time.perf_counter()
    print(f"a night of {new:,}: {sketched - began:.1f} s for sketches, {ended - sketched:.1f} s for clusters")
    print(f"at most {_peak():,.0f} MB")
    return ended - began < 60


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _size(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).iterdir())


if __name__ == "__main__":
    main()
