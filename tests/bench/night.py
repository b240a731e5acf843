"""The nightly job at full size: two nights over a folder of reviews, then one through Prefect, checked and timed.

    python -m tests.bench.night ../shared/data/reviews [--work FOLDER]

Checks that each review is covered or rejected, that each mention is its stretch of the text, that the second
night reads nothing and leaves equal tables, and that Prefect's tables are equal; prints times, peak memory and
the reading's profile. Exits with 1 if a check or a limit (8 minutes, 3 GB, 30 s) fails.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from ecner.storage.query import run_query
from tests.tables import Tables, assert_equal_tables, read_tables

FIRST_NIGHT_S, SECOND_NIGHT_S, PEAK_BYTES = 8 * 60, 30, 3_000_000_000


def night(reviews: Path, work: Path, name: str, module: str = "ecner.cli", *arguments: str) -> float:
    """Runs the job over a warehouse of its own; returns the seconds."""
    environment = os.environ | {
        "ECNER_SOURCE__URI": str(reviews),
        "ECNER_WAREHOUSE__URL": f"sqlite:///{work / name}.db",
        "ECNER_LAKE__URI": str(work / f"{name}-lake"),
        "PREFECT_HOME": str(work / "prefect"),
    }
    print(f"== {module} {' '.join(arguments)} into {name}.db", flush=True)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", module, *arguments], env=environment, check=True)
    return time.perf_counter() - began


def check(failures: list[str], holds: bool, line: str) -> None:
    """Prints a finding and remembers one that does not hold."""
    print(f"{'ok  ' if holds else 'FAIL'} {line}")
    if not holds:
        failures.append(line)


def main() -> None:
    """Runs the nights and checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    reviews = options.reviews.resolve()
    source = pl.read_parquet(f"{reviews}/**/*.parquet", columns=["review_id", "text"])
    failures: list[str] = []

    first = night(reviews, work, "plain", "ecner.cli", "extract")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    url = f"sqlite:///{work / 'plain.db'}"
    before = read_tables(url)
    run = run_query(url, None, "select * from extraction_runs").row(0, named=True)
    check(failures, first < FIRST_NIGHT_S, f"first night {first:.0f} s, limit {FIRST_NIGHT_S}")
    check(failures, peak < PEAK_BYTES, f"peak memory {peak / 1e9:.2f} GB, limit {PEAK_BYTES / 1e9:.0f}")
    covered = run_query(url, None, "select review_id from review_coverage union select review_id from rejected_reviews")
    check(
        failures, set(covered["review_id"]) == set(source["review_id"]), f"{len(covered):,} of {len(source):,} reviews"
    )
    unique = source["text"].n_unique()
    check(failures, run["texts_inferred"] <= unique, f"{run['texts_inferred']:,} texts read, {unique:,} different")
    mentions = run_query(url, None, "select review_id, surface, start_char, end_char from mentions")
    wrong = mentions.join(source, on="review_id").filter(
        pl.col("text").str.slice(pl.col("start_char"), pl.col("end_char") - pl.col("start_char")) != pl.col("surface")
    )
    check(failures, wrong.is_empty() and not mentions.is_empty(), f"{len(mentions):,} mentions are where they say")

    second = night(reviews, work, "plain", "ecner.cli", "extract")
    runs = run_query(url, None, "select texts_inferred from extraction_runs order by started_at")
    check(failures, runs["texts_inferred"][1] == 0, f"second night reads {runs['texts_inferred'][1]} texts")
    check(failures, second < SECOND_NIGHT_S, f"second night {second:.0f} s, limit {SECOND_NIGHT_S}")
    compare(failures, before, read_tables(url), "tables after the second night equal those after the first")

    prefect = night(reviews, work, "prefect", "flows.extract")
    compare(
        failures,
        before,
        read_tables(f"sqlite:///{work / 'prefect.db'}"),
        f"tables through Prefect are equal ({prefect:.0f} s)",
    )
    sys.exit(bool(failures))


def compare(failures: list[str], left: Tables, right: Tables, line: str) -> None:
    """Equal tables, as the tests understand it."""
    try:
        assert_equal_tables(left, right, but=("extraction_runs",))
    except AssertionError as error:
        check(failures, False, f"{line}: {error}")
    else:
        check(failures, True, line)


if __name__ == "__main__":
    main()
