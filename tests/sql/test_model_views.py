"""The views over what models did, each against its counterpart in Polars."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ecner.schema import TABLES
from ecner.storage.query import run_query
from ecner.storage.views import view_header, view_names
from tests.sql import test_views
from tests.sql.figures import clustered, texts
from tests.sql.nights import NAMES, fill, night

Tables = dict[str, pl.DataFrame]
VERSIONS = ["a", "b", "c"]
ENTITY = ["entity_type", "canonical"]
AT = datetime(2024, 2, 1, tzinfo=UTC)


def frame(table: str, rows: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=TABLES[table].polars_schema)


def history(seed: int) -> Tables:
    """A night's tables, its days read by one model or two, and what a registry of three models may hold."""
    random, tables = Random(seed), night(seed)  # noqa: S311
    days = sorted(set(tables["review_coverage"]["review_date"]))
    readers = dict(zip(days, random.choices([["a"], ["a"], ["b"], ["c"], ["a", "b"]], k=len(days)), strict=True))
    read_by = [random.choice(readers[day]) for day in tables["review_coverage"]["review_date"]]
    tables["review_coverage"] = tables["review_coverage"].with_columns(model_version=pl.Series(read_by))
    return tables | {
        "model_versions": frame("model_versions", [_version(name) for name in VERSIONS]),
        "model_promotions": frame("model_promotions", [_promotion(random, number) for number in range(1, 6)]),
        "model_bridge": frame("model_bridge", list(_bridge(random))),
        "gate_decisions": frame("gate_decisions", [_decision(random, name, rule) for name in "ab" for rule in "xy"]),
    }


def _version(name: str) -> dict[str, object]:
    return {
        "version": name, "created_at": AT, "status": "champion" if name == "c" else "archived",
        "architecture": "hybrid", "base": None, "parent": "a" if name == "b" else None, "uri": name,
        "reason": None if name == "a" else f"{name} is slow",
    }  # fmt: skip


def _promotion(random: Random, number: int) -> dict[str, object]:
    version, previous = random.sample(VERSIONS, 2)
    return {
        "promotion_no": number, "promoted_at": AT + number * timedelta(days=1),
        "action": random.choice(["promotion", "rollback"]), "version": version,
        "previous_version": None if number == 1 else previous,
    }  # fmt: skip


def _bridge(random: Random):
    """Bridges between most pairs, of most entities."""
    for old, new in [("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")]:
        for kind, names in NAMES.items():
            for name in ["*", *names]:
                if random.random() < 0.8:
                    counts = {"old_count": random.randrange(9), "new_count": random.randrange(9), "reviews": 100}
                    yield {"old_version": old, "new_version": new, "entity_type": kind, "canonical": name, **counts}


def _decision(random: Random, version: str, rule: str) -> dict[str, object]:
    return {
        "version": version, "champion": "c", "rule": rule, "outcome": random.choice(["passed", "failed"]),
        "value": random.random(), "lower": None, "upper": None, "allowed": 0.5, "detail": "why", "decided_at": AT,
    }  # fmt: skip


def entity_trends(tables: Tables) -> pl.DataFrame:
    """Day by day, in plain Python: who read it, and who the last day before that had one reader."""
    readers: dict[object, set[str]] = {}
    for day, version in tables["review_coverage"].select("review_date", "model_version").iter_rows():
        readers.setdefault(day, set()).add(version)
    days, last = [], None
    for day in sorted(readers):
        version = next(iter(readers[day])) if len(readers[day]) == 1 else "mixed"
        before = None if version == "mixed" else last
        days.append((day, version, before, int(before is not None and before != version)))
        last = last if version == "mixed" else version
    names = {"review_date": pl.Date, "model_version": pl.String, "previous_model_version": pl.String, "is_break": int}
    bridge = tables["model_bridge"].rename(
        {"old_version": "previous_model_version", "new_version": "model_version", "reviews": "bridge_reviews"}
    )
    pair = ["previous_model_version", "model_version"]
    types = bridge.filter(canonical="*").rename({"old_count": "type_old_count", "new_count": "type_new_count"})
    entities = bridge.drop("bridge_reviews").rename({"old_count": "bridge_old_count", "new_count": "bridge_new_count"})
    return (
        clustered(tables, "mentions")
        .group_by("review_date", *ENTITY)
        .agg(mention_count=pl.len(), **texts())
        .join(pl.DataFrame(days, schema=names, orient="row"), on="review_date")
        .join(entities, on=[*pair, *ENTITY], how="left")
        .join(types.drop("canonical"), on=[*pair, "entity_type"], how="left")
    )


def promotion_history(tables: Tables) -> pl.DataFrame:
    return tables["model_promotions"].join(tables["model_versions"].drop("uri", "data_fingerprint"), on="version")


def gate_history(tables: Tables) -> pl.DataFrame:
    return tables["gate_decisions"].join(tables["model_versions"].select("version", "status", "reason"), on="version")


EXPECTED: dict[str, Callable[[Tables], pl.DataFrame]] = {
    "entity_trends": entity_trends,
    "promotion_history": promotion_history,
    "gate_history": gate_history,
}


@pytest.mark.parametrize("seed", range(2))
def test_each_view_equals_its_counterpart(warehouse, place, seed):
    tables = history(seed)
    with warehouse.begin() as transaction:
        fill(transaction, tables)
    for view, expected in EXPECTED.items():
        wanted = test_views.in_one_form(expected(tables))
        found = test_views.in_one_form(run_query(*place, view))
        untyped = {name: wanted.schema[name] for name, dtype in found.schema.items() if dtype == pl.Null}
        assert_frame_equal(found.cast(untyped), wanted)
    trends = run_query(*place, "entity_trends")
    assert set(trends["model_version"]) == {*VERSIONS, "mixed"}
    breaks = trends.filter(is_break=1)
    assert 0 < breaks["type_new_count"].null_count() < len(breaks)
    assert trends.filter(is_break=0)["bridge_reviews"].null_count() == len(trends) - len(breaks)


@pytest.mark.parametrize("view", EXPECTED)
def test_its_header_and_its_file(place, warehouse, view):
    test_views.test_a_header_says_what_rows_and_columns_are_and_its_example_runs(place, warehouse, view)
    test_views.test_a_file_is_one_drop_and_one_create(view)


def test_both_histories_say_the_same_of_a_reason():
    said = {
        line.split(maxsplit=2)[2]
        for view in ("gate_history", "promotion_history")
        for line in re.findall(r"^reason .*$", view_header(view), re.MULTILINE)
    }
    (only,) = said
    assert only.endswith("null if it passed the gate or was never compared")


def test_every_view_has_a_counterpart():
    assert test_views.EXPECTED.keys() | EXPECTED.keys() == set(view_names())
