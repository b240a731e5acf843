import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.config import Settings
from ecner.data.rows import LabelledText
from ecner.errors import DataError, UsageError
from ecner.labels import Span
from ecner.nightly import parquet
from ecner.retraining import annotations
from ecner.retraining.annotations import read_annotations
from ecner.schema import TABLES
from ecner.storage.warehouse import Warehouse

TEXT = "小米手机壳"
AT = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BRAND, PRODUCT = Span(0, 2, "HPPX"), Span(2, 4, "HCCX")


def row(spans="[[0, 2]]", **values: object):
    spans = spans if isinstance(spans, str | None) else json.dumps(spans)
    given = {"review_id": None, "text": TEXT, "spans": spans, "label": "HPPX", "annotator": "a", "labelled_at": AT}
    return given | values


def frame(rows):
    return pl.DataFrame(rows, schema=TABLES["annotations"].polars_schema)


def settle(rows):
    """Settles rows of which none took its text from the source."""
    return annotations.settle(rows.with_columns(updated_at=pl.lit(None, pl.Datetime("us", "UTC"))))


def settled(*rows: dict[str, object]):
    """The labelled texts of rows, all of which can be used."""
    found = settle(frame(rows))
    assert found.rejected == ()
    return list(found.texts)


_SAID = [
    *(("HPPX", spans) for spans in ("[[0, 2]]", "[[0, 1]]", "[]")),
    *(("HCCX", spans) for spans in ("[[2, 4]]", '[{"start": 2, "end": 3}]', "[]")),
    (None, "[]"),
    (None, '[{"start": 0, "end": 2, "label": "HPPX"}, {"start": 2, "end": 4, "label": "HCCX"}]'),
    ("HPPX", '[{"start": 3, "end": 4, "label": "HCCX"}]'),
]
_CONTRADICTING = [("XH", "[[1, 3]]"), ("HCCX", "[[0, 4]]"), ("XH", "no JSON"), (None, "[[0, 1]]")]


def _rows(said):
    made = st.builds(
        lambda said, text, annotator, day: row(
            said[1], label=said[0], text=text, annotator=annotator, labelled_at=None if day is None else AT + day * DAY
        ),
        st.sampled_from(said),
        st.sampled_from([TEXT, "华为耳机"]),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from([None, 0, 1]),
    )
    return st.lists(made, max_size=6)


@given(_rows(_SAID + _CONTRADICTING), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert settle(frame(shuffled)) == settle(frame(rows))


@given(_rows(_SAID))  # no two of them contradict each other
def test_the_newest_row_of_each_label_holds(rows):
    for number, one in enumerate(rows):  # no ties
        one["labelled_at"] = one["labelled_at"] and one["labelled_at"] + timedelta(minutes=number)
        one["annotator"] = f"{number:03d}"
    ordered = sorted(rows, key=lambda one: (one["labelled_at"] or datetime.min.replace(tzinfo=UTC), one["annotator"]))
    expected = {one["text"]: set() for one in rows}
    for text, found in expected.items():
        for label in ("HPPX", "HCCX"):
            said = [spans for one in ordered if one["text"] == text and (spans := _said(one, label)) is not None]
            found.update(said[-1] if said else ())
    assert {labelled.text: set(labelled.spans) for labelled in settled(*rows)} == expected


def _said(one, label):
    """The spans that a row gives to a label; None where it does not speak of it."""
    spans = set()
    labels = {one["label"]} - {None}
    for element in json.loads(one["spans"]):
        values = dict(zip(("start", "end"), element, strict=True)) if isinstance(element, list) else element
        span = Span(values["start"], values["end"], values.get("label", one["label"]))
        labels.add(span.label)
        spans |= {span} if span.label == label else set()
    return spans if label in labels or not labels else None


def test_labels_of_a_text_are_united():
    assert settled(row(), row([[2, 4]], label="HCCX", labelled_at=AT - DAY)) == [LabelledText(TEXT, (BRAND, PRODUCT))]


def test_a_newer_row_takes_back_what_an_older_one_says():
    assert settled(row(), row([], labelled_at=AT + DAY)) == [LabelledText(TEXT)]
    assert settled(row(), row([], labelled_at=None)) == [LabelledText(TEXT, (BRAND,))]
    assert settled(row(), row([], label="HCCX", labelled_at=AT + DAY)) == [LabelledText(TEXT, (BRAND,))]
    assert settled(row(), row([], label=None, labelled_at=AT + DAY)) == [LabelledText(TEXT)]


def test_a_span_has_its_own_label_before_that_of_the_row():
    spans = [{"start": 2, "end": 4, "label": "HCCX"}, {"start": 0, "end": 2, "label": None}]
    assert settled(row(spans)) == [LabelledText(TEXT, (BRAND, PRODUCT))]


def test_white_space_around_a_label_is_none_of_it():
    spans = [{"start": 2, "end": 4, "label": "\u3000HCCX "}, {"start": 0, "end": 2, "label": " "}]
    assert settled(row(spans, label=" HPPX\n")) == [LabelledText(TEXT, (BRAND, PRODUCT))]
    assert settled(row(label=" HPPX"), row([], labelled_at=AT + DAY)) == [LabelledText(TEXT)]


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"text": None}, "no_text"),
        ({"text": None, "review_id": "gone"}, "unknown_review"),
        ({"text": " \u3000"}, "blank_text"),
        ({"text": "小米\0手机"}, "nul_text"),
        ({"spans": None}, "bad_spans"),
        ({"spans": "no JSON"}, "bad_spans"),
        ({"spans": "[" * 100_000}, "bad_spans"),
        ({"spans": '{"start": 0, "end": 2}'}, "bad_spans"),
        ({"spans": "[0, 2]"}, "bad_spans"),
        ({"spans": "[[0, 2.0]]"}, "bad_spans"),
        ({"spans": "[[false, true]]"}, "bad_spans"),
        ({"spans": '[[0, 2, "HPPX"]]'}, "bad_spans"),
        ({"spans": '[{"start": 0}]'}, "bad_spans"),
        ({"spans": '[{"start": 0, "end": 2, "label": 0}]'}, "bad_spans"),
        ({"label": None}, "missing_label"),
        ({"label": " "}, "missing_label"),
        ({"label": "A\0"}, "bad_label"),
        ({"spans": '[{"start": 0, "end": 2, "label": "\\ud800"}]'}, "bad_label"),
        ({"spans": "[[4, 6]]"}, "bad_offsets"),
        ({"spans": "[[-1, 2]]"}, "bad_offsets"),
        ({"spans": "[[2, 2]]"}, "bad_offsets"),
        ({"spans": "[[0, 2], [1, 3]]"}, "overlap"),
    ],
)
def test_rows_that_cannot_be_used(values, rule):
    bad = row(**values)
    good = row(text="华为耳机")
    found = settle(frame([bad, good, bad]))
    assert [(rejection.rule, rejection.count) for rejection in found.rejected] == [(rule, 2)]
    assert str(found.rejected[0]).startswith(f"{rule}: 2 row(s), such as: ")
    assert found.texts == (LabelledText("华为耳机", (BRAND,)),)
    assert found.rows == 3


def test_a_bad_row_hides_no_older_one():
    found = settle(frame([row(), row("no JSON", labelled_at=AT + DAY)]))
    assert found.texts == (LabelledText(TEXT, (BRAND,)),)


def test_of_rows_that_overlap_the_newer_holds():
    older, newer = row([[1, 3]], label="XH"), row(labelled_at=AT + DAY)
    for rows in ([older, newer], [newer, older]):
        found = settle(frame(rows))
        assert found.texts == (LabelledText(TEXT, (BRAND,)),)
        assert [(rejection.rule, rejection.count) for rejection in found.rejected] == [("overlap", 1)]


def test_a_row_that_overlaps_a_newer_one_hides_no_older_one():
    rows = [row(labelled_at=AT + DAY), row([[1, 3]], label="XH"), row([[4, 5]], label="XH", labelled_at=AT - DAY)]
    assert settle(frame(rows)).texts == (LabelledText(TEXT, (BRAND, Span(4, 5, "XH"))),)


@pytest.fixture
def settings(tmp_path):
    reviews = pl.DataFrame(
        {
            "review_id": ["r1", "r1", "r1", "r2", "r3", "undated"],
            "text": ["旧的小米", TEXT, "无日期", "华为耳机", "没人问", TEXT],
            "updated_at": [AT, AT + DAY, None, AT, AT, None],
        }
    )
    reviews.write_parquet(tmp_path / "reviews.parquet")
    warehouse = {"url": f"sqlite:///{tmp_path}/warehouse.db"}
    return Settings.model_validate({"source": {"uri": str(tmp_path / "reviews.parquet")}, "warehouse": warehouse})


def fill(settings, *rows: dict[str, object]):
    warehouse = Warehouse(*settings.warehouse_at)
    warehouse.migrate()
    with warehouse.begin() as transaction:
        transaction.append("annotations", frame(rows))


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_texts_of_reviews_come_from_the_source(settings, monkeypatch, batch_rows):
    monkeypatch.setattr(parquet, "_BATCH_ROWS", batch_rows)
    fill(
        settings,
        row(text=None, review_id="r1", labelled_at=AT + DAY),
        row(text=" ", review_id="r2"),
        row([[2, 4]], text="文本在先", review_id="r3"),
        row(text=None, review_id="gone"),
        row(text=None, review_id="r1", spans="[[9, 10]]", labelled_at=AT + DAY),
        row(text=None, review_id=None),
    )
    found = read_annotations(settings)
    assert {labelled.text: labelled.spans for labelled in found.texts} == {
        TEXT: (BRAND,),
        "华为耳机": (BRAND,),
        "文本在先": (Span(2, 4, "HPPX"),),
    }
    assert {rejection.rule for rejection in found.rejected} == {"unknown_review", "bad_offsets", "no_text"}
    assert next(r.detail for r in found.rejected if r.rule == "bad_offsets").endswith("of 'r1'")


@pytest.mark.parametrize(
    ("values", "is_changed"),
    [
        ({}, True),
        ({"text": " "}, True),
        ({"labelled_at": AT + DAY}, False),
        ({"labelled_at": AT + DAY - timedelta(microseconds=1)}, True),
        ({"labelled_at": None}, False),
        ({"text": TEXT}, False),
        ({"review_id": "undated"}, False),
    ],
)
def test_a_text_that_changed_after_it_was_labelled_is_not_used(settings, values, is_changed):
    fill(settings, row(**{"text": None, "review_id": "r1"} | values))
    found = read_annotations(settings)
    assert found.texts == (() if is_changed else (LabelledText(TEXT, (BRAND,)),))
    assert [(one.rule, one.count) for one in found.rejected] == ([("changed_review", 1)] if is_changed else [])
    assert all(one.detail.endswith("of 'r1'") for one in found.rejected)


def test_the_source_is_not_opened_where_no_text_is_asked(settings, tmp_path):
    fill(settings, row())
    (tmp_path / "reviews.parquet").unlink()
    assert read_annotations(settings).texts == (LabelledText(TEXT, (BRAND,)),)


def test_an_empty_table(settings):
    fill(settings)
    assert read_annotations(settings).texts == ()


def test_a_warehouse_that_is_not_there_is_not_made(settings, tmp_path):
    with pytest.raises(UsageError, match=r"no warehouse .*warehouse\.db; check warehouse\.url"):
        read_annotations(settings)
    assert not (tmp_path / "warehouse.db").exists()


def test_a_database_without_the_table(settings, tmp_path):
    (tmp_path / "warehouse.db").touch()
    with pytest.raises(UsageError, match="no up-to-date table annotations"):
        read_annotations(settings)


@pytest.mark.parametrize(("column", "value"), [("labelled_at", "yesterday"), ("labelled_at", 7), ("text", b"bytes")])
def test_a_value_of_another_kind_is_told(settings, tmp_path, column, value):
    fill(settings)
    with closing(sqlite3.connect(tmp_path / "warehouse.db")) as raw, raw:
        raw.execute(f"insert into annotations ({column}) values (?)", (value,))  # noqa: S608
    with pytest.raises(DataError, match=r"table annotations holds a value that cannot be read.*mend"):
        read_annotations(settings)


def test_rows_by_other_tools(settings, tmp_path):
    fill(settings)
    with closing(sqlite3.connect(tmp_path / "warehouse.db")) as raw, raw:
        raw.execute(
            "insert into annotations (text, spans, label, labelled_at) values (?, '[[0, 2]]', 'HPPX', '2026-11-01')",
            (TEXT,),
        )
    assert read_annotations(settings).texts == (LabelledText(TEXT, (BRAND,)),)
