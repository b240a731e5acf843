"""The nightly job over millions of rows: a folder of reviews repeated under new ids, read, published and counted.

    python -m tests.bench.scale ../shared/data/reviews [--rows 2000000] [--work FOLDER] [--warehouse URL]

Runs one night over a tenth of the rows and one over all of them, each in a process and a warehouse of its own, and
prints rows per second by step. Exits with 1 if a review is neither covered nor rejected, if the model read a text
twice, or if the peak memory of the large night is over 1.15 times that of the small one. What is there in the work
folder is taken up: the rows, finished nights, and the readings of one that was stopped. Refuses at once where the
disk is too small.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from ecner.config import load_settings
from ecner.nightly.run import prepare, run_night
from ecner.nightly.scope import Selection
from ecner.storage.query import run_query

PEAK_RATIO = 1.15
_ROWS_A_FILE = 250_000
_SOURCE_BYTES_A_ROW = 120


def main() -> None:
    """Makes the rows, runs the nights and checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--warehouse", help="SQLAlchemy URL of an empty database; a new SQLite file if not given")
    parser.add_argument("--night", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.night:
        _night(options.night, options.rows)
        return
    work = options.work or Path(tempfile.mkdtemp())
    reviews = pl.read_parquet(f"{options.reviews}/**/*.parquet")
    texts = reviews["text"].n_unique()
    results = [_result(work, reviews, rows, options.warehouse) for rows in (options.rows // 10, options.rows)]
    failures = [line for line, holds in _checks(results, texts) if not holds]
    for result in results:
        print(_told(result))
    for line, holds in _checks(results, texts):
        print(f"{'ok  ' if holds else 'FAIL'} {line}")
    sys.exit(bool(failures))


def _checks(results: list[dict[str, Any]], texts: int) -> list[tuple[str, bool]]:
    small, large = results
    ratio = large["peak"] / small["peak"]
    checks = [(f"peak {large['peak'] / 1e9:.2f} GB is {ratio:.3f} of {small['peak'] / 1e9:.2f}", ratio <= PEAK_RATIO)]
    for result in results:
        known = result["covered"] + result["rejected"]
        checks += [
            (f"{result['rows']:,} rows in, {known:,} covered or rejected", known == result["rows"]),
            (f"{result['inferred']:,} texts read, {texts:,} different", result["inferred"] <= texts),
        ]
    return checks


def _told(result: dict[str, Any]) -> str:
    steps = [
        f"  {name:<10}{seconds:>8.1f} s  {result['rows'] / max(seconds, 1e-9):>12,.0f} rows/s"
        for name, seconds in result["steps"].items()
    ]
    return "\n".join([f"{result['rows']:,} rows in {result['seconds']:.0f} s", *steps])


def _result(work: Path, reviews: pl.DataFrame, rows: int, warehouse: str | None) -> dict[str, Any]:
    """What a night over so many rows came to; one that ended before is not run again."""
    found = work / f"{rows}.json"
    if not found.exists():
        source = _source(work / f"rows-{rows}", reviews, rows)
        environment = os.environ | {
            "ECNER_SOURCE__URI": str(source),
            "ECNER_WAREHOUSE__URL": warehouse or f"sqlite:///{work / str(rows)}.db",
            "ECNER_LAKE__URI": str(work / f"lake-{rows}"),
        }
        if warehouse:
            environment["ECNER_WAREHOUSE__SCHEMA"] = f"scale_{rows}"
        command = [sys.executable, "-m", "tests.bench.scale", "-", "--rows", str(rows), "--night", str(found)]
        subprocess.run(command, env=environment, check=True)
    result: dict[str, Any] = json.loads(found.read_text())
    return result


def _night(found: Path, rows: int) -> None:
    """One night in this process; its figures go to a file."""
    began = time.perf_counter()
    settings = load_settings()
    report = run_night(prepare(settings, Selection()))
    seconds = time.perf_counter() - began
    plan = report.plan
    covered = run_query(*settings.warehouse_at, "select count(*) as reviews from review_coverage")["reviews"].item()
    reading = {"model": report.seconds["total"]}
    values = {
        "rows": rows,
        "seconds": seconds,
        "steps": {**report.steps, **reading},
        "covered": covered,
        "rejected": plan.reviews_rejected,
        "inferred": plan.texts_inferred,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    found.write_text(json.dumps(values))


def _source(folder: Path, reviews: pl.DataFrame, rows: int) -> Path:
    """The reviews again and again, under new ids, in files of a size that is written at once."""
    if folder.exists():
        return folder
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    needed, free = rows * _SOURCE_BYTES_A_ROW, shutil.disk_usage(unfinished).free
    if needed > free:
        sys.exit(f"{rows:,} rows take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: name another --work")
    times = -(-rows // len(reviews))
    held: list[pl.DataFrame] = []
    written = 0
    for number in range(times):
        copy = reviews.with_columns(review_id=pl.format("{}-{}", pl.col("review_id").cast(pl.String), pl.lit(number)))
        held.append(copy.head(rows - number * len(reviews)))
        if sum(map(len, held)) >= _ROWS_A_FILE or number == times - 1:
            pl.concat(held).write_parquet(unfinished / f"{written:05d}.parquet", row_group_size=50_000)
            held, written = [], written + 1
    return unfinished.rename(folder)


if __name__ == "__main__":
    main()
