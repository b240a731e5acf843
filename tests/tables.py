"""The tables of a warehouse, read for comparison: what two runs that did the same must agree on."""

from collections.abc import Mapping

import polars as pl
from polars import selectors as cs
from polars.testing import assert_frame_equal

from ecner.schema import TABLES
from ecner.storage.warehouse import Warehouse

Tables = Mapping[str, pl.DataFrame]
# created_at of a review is a fact of it; that of a model version is when it was entered.
_OF_A_RUN = {"model_versions": ["created_at"], "tombstones": ["removed_at"]}
_NOT_OF_THE_DATA = {"leases", "stale_copies", "warehouse_facts"}


def read_tables(url: str, schema: str | None = None) -> Tables:
    """Every table but ``run_id`` and the times of runs, ordered; of the ledger the runs that succeeded, of rejections
    each once, as every run enters those it comes across.
    """
    with Warehouse(url, schema).connect() as reader:
        frames = {name: reader.read(name) for name in TABLES if name not in _NOT_OF_THE_DATA}
    frames["extraction_runs"] = frames["extraction_runs"].filter(status="succeeded").drop("started_at", "finished_at")
    kept = {name: frame.drop("run_id", *_OF_A_RUN.get(name, []), strict=False) for name, frame in frames.items()}
    kept["rejected_reviews"] = kept["rejected_reviews"].unique()
    return {name: frame.sort(_order(name, frame)) for name, frame in kept.items()}


def assert_equal_tables(left: Tables, right: Tables, *, but: tuple[str, ...] = ()) -> None:
    """Raises AssertionError naming the first table that differs; confidences and means may do so by 0.001."""
    for name in TABLES:
        if name not in {*but, *_NOT_OF_THE_DATA}:
            frames = [frame[name].with_columns(cs.float().round(4)) for frame in (left, right)]
            try:
                assert_frame_equal(*frames, check_exact=False, rel_tol=0, abs_tol=1e-3)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from None


def _order(name: str, frame: pl.DataFrame) -> list[str]:
    key = [column for column in TABLES[name].key if column in frame.columns]
    return [*key, *(column for column in frame.columns if column not in key)]
