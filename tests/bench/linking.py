"""Suggestions of names on labelled texts, judged by the list in tests/linking/pairs.txt.

    python -m tests.bench.linking FILE.jsonl [FILE.jsonl ...] [--write]

Takes the labels of chinese_ner_sft files for spans, gathers what they say of names, and prints precision and recall of
the suggestions on the list, with what was wrong and what was missed. --write keeps the evidence on the names of the
list in tests/linking, where the test finds it. Exits with 1 below a precision of 0.8 or a recall of 0.6.
"""

import argparse
import sys
import tempfile
from datetime import date
from pathlib import Path

import polars as pl

from ecner.config import ModelSettings
from ecner.data.hashes import hash_texts
from ecner.linking.evidence import PAIR, Evidence, gather
from ecner.linking.score import LEAST_SCORE
from ecner.nightly.rules import Rules
from ecner.storage.warehouse import Warehouse
from tests.linking.labelled import HERE, NO_LEXICON, judge, of_the_list, read_pairs


def main() -> None:
    """Gathers, judges and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    evidence = of_the_list(_evidence(pl.concat(map(_labels, options.files)).unique()))
    if options.write:
        _write(evidence)
    pairs = list(read_pairs())
    figures, wrong, missed = judge(evidence, pairs, LEAST_SCORE)
    for title, some in (("wrong", wrong), ("missed", missed)):
        print(f"{title}: {', '.join(f'{pair.left}|{pair.right}' for pair in some)}")
    linked_wrong = [pair for pair in pairs if pair.is_settled and not pair.is_one]
    settled = sum(pair.is_settled for pair in pairs)
    print(f"{len(pairs)} pairs, {settled} settled by rules, {len(linked_wrong)} of them wrong")
    print(f"{figures}: precision {figures.precision:.3f}, recall {figures.recall:.3f}")
    sys.exit(bool(linked_wrong) or figures.precision < 0.8 or figures.recall < 0.6)


def _labels(file: Path) -> pl.DataFrame:
    labelled = pl.read_ndjson(file).select("text", "entities").explode("entities").drop_nulls().unnest("entities")
    return labelled.select(
        "text", start_char="start_idx", end_char="end_idx", surface="entity_text", label="entity_label"
    )


def _evidence(labels: pl.DataFrame) -> Evidence:
    spans = labels.with_columns(text_hash=hash_texts(labels["text"])).sort("text_hash", "start_char")
    start, end, text = pl.col("start_char"), pl.col("end_char"), pl.col("text")
    rows = spans.with_columns(
        fingerprint=pl.lit("gold"),
        confidence=pl.lit(1.0),
        span_no=pl.int_range(1, pl.len() + 1).over("text_hash"),
        left_context=text.str.slice(pl.max_horizontal(start - 12, 0), pl.min_horizontal(start, 12)),
        right_context=text.str.slice(end, 12),
    )
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(f"sqlite:///{folder}/gold.db")
        warehouse.migrate()
        with warehouse.begin() as transaction:
            transaction.append("text_spans", rows)
            transaction.append("review_coverage", _reviews(labels))
        with warehouse.connect() as reader:
            return gather(reader, Rules(ModelSettings(), NO_LEXICON))


def _reviews(labels: pl.DataFrame) -> pl.DataFrame:
    texts = labels.select(text_hash=hash_texts(labels["text"])).unique()
    return texts.with_columns(
        review_id="text_hash",
        fingerprint=pl.lit("gold"),
        model_version=pl.lit("gold"),
        run_id=pl.lit("gold"),
        review_date=date(2026, 1, 1),
        chars=1,
        chars_read=1,
        windows=1,
        mention_count=1,
        **dict.fromkeys(("product_id", "rating", "created_at", "updated_at")),
    )


def _write(evidence: Evidence) -> None:
    evidence.names.drop("example").write_csv(HERE / "names.csv")
    met = evidence.met.join(evidence.slots, on=PAIR, how="full", coalesce=True)
    met.with_columns(pl.col(pl.Int64).fill_null(0)).sort(PAIR).write_csv(HERE / "met.csv")


if __name__ == "__main__":
    main()
