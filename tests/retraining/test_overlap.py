from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecner.config import Settings
from ecner.errors import UsageError
from ecner.nightly import parquet
from ecner.retraining.overlap import recent_reviews
from tests.nightly.oracle import hashed
from tests.nightly.reviews import bad_rows, write

AT = datetime(2026, 11, 1, 20, tzinfo=UTC)
DAY = timedelta(days=1)


def sample_of(source, count, **sections: Any):
    made = Settings.model_validate({"source": {"uri": str(source)}, **sections})
    return recent_reviews(made, count).rows()


def row(review_id, text="小米", created_at=AT, updated_at=None, deleted=False):
    made = {"review_id": review_id, "text": text, "created_at": created_at, "updated_at": updated_at}
    return made | {"deleted": deleted}


def expected(rows, count):
    """The same by a sort of all rows."""
    oldest = datetime.min.replace(tzinfo=UTC)
    ranked = sorted(enumerate(rows), key=lambda pair: (pair[1]["updated_at"] or oldest, pair[0]))
    settled = {row["review_id"]: row for _, row in ranked}.values()
    dated = [
        (row["review_id"], row["text"], row["created_at"] and row["created_at"].date())
        for row in settled
        if not row["deleted"]
    ]
    return sorted(dated, key=lambda r: (-(r[2] or date.min).toordinal(), hashed(r[0])))[:count]


@st.composite
def sources(draw):
    """Rows of few ids whose rows differ in all there is, updated_at telling them apart; and where files end."""
    ids = draw(st.lists(st.sampled_from("abcdefgh"), max_size=24))
    days = st.sampled_from([None, *(AT - days * DAY for days in range(4))])
    deleted = st.sampled_from([False, False, True])
    rows = [row(name, f"t{number}", draw(days), AT + number * DAY, draw(deleted)) for number, name in enumerate(ids)]
    return draw(st.permutations(rows)), draw(st.lists(st.integers(0, len(rows)), max_size=3).map(sorted))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=sources(), count=st.integers(1, 9), batch_rows=st.sampled_from([2, 1000]))
def test_it_is_the_newest_whatever_the_order_of_rows_and_the_files(tmp_path_factory, source, count, batch_rows):
    rows, cuts = source
    folder = tmp_path_factory.mktemp("source")
    bounds = [0, *cuts, len(rows)]
    for number, (first, last) in enumerate(pairwise(bounds)):
        write(folder / f"{number}.parquet", [*rows[first:last], *bad_rows()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_BATCH_ROWS", batch_rows)
        assert sample_of(folder, count) == expected(rows, count)


def test_of_equals_the_last_in_the_source_counts(tmp_path):
    rows = [row("a", "first", updated_at=AT), row("a", "last", updated_at=AT), row("a", "older")]
    assert sample_of(write(tmp_path / "x.parquet", rows), 9) == [("a", "last", AT.date())]


def test_a_day_is_that_of_the_night(tmp_path):
    """The local date, else the partition."""
    for day in ("2026-11-05", "2026-11-01"):
        write(tmp_path / f"date={day}" / "x.parquet", [row(day, created_at=None)])
    write(tmp_path / "x.parquet", [row("evening")])
    sample = sample_of(tmp_path, 2, run={"time_zone": "Asia/Shanghai"})
    assert [(name, f"{day}") for name, _, day in sample] == [("2026-11-05", "2026-11-05"), ("evening", "2026-11-02")]


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no Parquet file"):
        sample_of(tmp_path / "none", 1)
