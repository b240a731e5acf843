import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecner.errors import DataError, LeaseError, ModelError, RunError, TransientError, UsageError
from ecner.inference.reader import Reader
from ecner.nightly import room, run
from ecner.nightly.page import write_page
from ecner.nightly.run import run_night
from tests.nightly.house import House
from tests.nightly.reviews import make_reviews, write
from tests.tables import assert_equal_tables


def test_every_row_is_covered_or_rejected(house, source, rows):
    report = house.night(source)
    covered, rejected = house.read("review_coverage"), house.read("rejected_reviews")
    assert len(covered) + len(rejected) == len(rows) == report.plan.reviews_in
    assert set(covered["review_id"]) == {row["review_id"] for row in rows[:90]}
    assert rejected.sort("source_row")["source_row"].to_list() == list(range(90, 95))
    assert set(rejected["reason"]) == {"null_text", "blank_text", "null_id", "bad_id"}
    assert rejected["detail"].null_count() == 0


def test_the_ledger_of_a_night(house, source):
    before = datetime.now(UTC)
    report = house.night(source)
    run = house.run(report)
    texts = house.read("review_coverage")["text_hash"].n_unique()
    assert {name: run[name] for name in ("source", "status", "error", "watermark_low", "watermark_high")} == {
        "source": str(source), "status": "succeeded", "error": None, "watermark_low": None, "watermark_high": None,
    }  # fmt: skip
    assert before <= run["started_at"] <= run["finished_at"] <= datetime.now(UTC)
    assert (run["reviews_in"], run["reviews_rejected"], run["texts_unique"]) == (95, 5, texts)
    assert (run["texts_cached"], run["texts_inferred"]) == (0, texts)
    assert run["mentions_out"] == len(house.read("mentions"))
    assert run["model_version"] == report.plan.model.version == house.read("model_versions")["version"].item()


def test_a_second_night_reads_nothing(house, source, monkeypatch):
    house.night(source)
    before = house.tables()
    monkeypatch.setattr(Reader, "read", lambda *_: pytest.fail("a text was read"))
    shutil.rmtree(house.folder / "lake")
    run = house.run(house.night(source))
    assert (run["texts_inferred"], run["mentions_out"]) == (0, 0)
    assert run["texts_cached"] == run["texts_unique"] > 0
    assert_equal_tables(house.tables(), before, but=("extraction_runs",))


def test_a_partitioned_folder(houses, rows, source, tmp_path):
    """Partitions without created_at give the dates; the tables are those of one file."""
    one, many = houses(), houses()
    plain = [{name: value for name, value in row.items() if name != "updated_at"} for row in rows[:90]]
    one.night(write(tmp_path / "one.parquet", plain))
    for day in {row["created_at"].date() for row in plain}:
        part = [row | {"created_at": None} for row in plain if row["created_at"].date() == day]
        write(tmp_path / "in" / f"date={day}" / "part-0.parquet", part)
    many.night(tmp_path / "in")
    left, right = ({**house.tables()} for house in (one, many))
    for tables in (left, right):
        tables["review_coverage"] = tables["review_coverage"].drop("created_at")
    assert_equal_tables(left, right, but=("extraction_runs",))


def test_bytes_that_are_not_utf8_leave_the_rest_alone(house, tmp_path):
    texts = [b"\xe5\xb0\x8f\xe7\xb1\xb3", b"\xff\xfe"]
    offsets = pa.array([0, len(texts[0]), len(texts[0]) + 2], pa.int32()).buffers()[1]
    column = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"".join(texts))])
    pq.write_table(pa.table({"review_id": [1, 2], "text": column}), tmp_path / "x.parquet")
    house.night(tmp_path / "x.parquet")
    assert house.read("mentions").select("review_id", "surface").rows() == [("1", "小米")]
    assert house.read("rejected_reviews").select("review_id", "reason").rows() == [("2", "invalid_utf8")]


def test_another_database(houses, source, postgresql_url):
    house, other = houses(), replace(houses(), database=postgresql_url)
    reports = [each.night(source) for each in (house, other)]
    assert_equal_tables(other.tables(), house.tables())
    left, right = (report.to_text().splitlines()[8:] for report in reports)  # behind the run's own lines
    assert left == right
    other.night(source, model={"min_confidence": {"brand": 0.9}})
    house.night(source, model={"min_confidence": {"brand": 0.9}})
    assert_equal_tables(other.tables(), house.tables())


def test_nothing_to_read(house, tmp_path):
    schema = pa.schema({"review_id": pa.string(), "text": pa.string()})
    pq.write_table(schema.empty_table(), tmp_path / "x.parquet")
    report = house.night(tmp_path / "x.parquet")
    assert house.run(report)["status"] == "succeeded"
    assert house.read("review_coverage").is_empty()


def test_the_first_run_registers_the_model(house, source, tmp_path):
    folder = shutil.copytree(house.model, tmp_path / "carded")
    figure = {"dataset": "titles dev", "metric": "strict_f1", "entity_type": "all", "value": 0.8, "support": 40}
    card = {"base": "e5", "data_fingerprint": "d", "evaluations": [figure, {**figure, "metric": "recall"}]}
    (folder / "version.json").write_text(json.dumps(card))
    home = House(house.folder, folder)
    for _ in range(2):
        home.night(source)
    model = home.read("model_versions").row(0, named=True)
    assert len(home.read("model_versions")) == 1
    assert model["version"].startswith("carded-")
    assert (model["architecture"], model["base"], model["data_fingerprint"]) == ("hybrid", "e5", "d")
    assert model["uri"] == str(folder)
    evaluations = home.read("model_evaluations").sort("metric", descending=True).to_dicts()
    assert evaluations == [{"version": model["version"], **row} for row in card["evaluations"]]


def test_a_version_of_the_warehouse_and_the_champion(house, other_model, source):
    version = house.night(source).plan.model.version
    other = house.night(source, model={"ref": str(other_model)}).plan.model.version
    assert house.night(source, model={"ref": version}).plan.model.version == version
    with house.warehouse.begin() as transaction:
        transaction.update("model_versions", {"version": other}, {"status": "champion"})
    assert house.night(source, model={"ref": "champion"}).plan.model.version == other


def save(path, **columns: Any):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def bad_sources(tmp_path):
    folder = tmp_path / "bad"
    save(folder / "numbers.parquet", review_id=["a"], text=[1])
    save(folder / "floats.parquet", review_id=[1.0], text=["t"])
    twice = pa.table([["a"], ["t"], ["u"]], names=["review_id", "text", "text"])
    pq.write_table(twice, folder / "twice.parquet")
    (folder / "garbage.parquet").write_bytes(os.urandom(999))
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("missing.parquet", UsageError), ("empty", UsageError), ("*.nothing", UsageError),
        ("numbers.parquet", UsageError), ("floats.parquet", UsageError),
        ("twice.parquet", UsageError), ("garbage.parquet", DataError),
    ],
)  # fmt: skip
def test_a_bad_source_is_told_before_anything_is_made(house, bad_sources, uri, error):
    with pytest.raises(error):
        house.prepare(bad_sources / uri)
    assert house.files() == []


@pytest.mark.parametrize(
    ("ref", "error"),
    [("no-such-version", UsageError), ("/no/such/folder", UsageError), (".", ModelError)],
)
def test_a_bad_model_is_told_before_anything_is_made(house, source, tmp_path, monkeypatch, ref, error):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        house.prepare(source, model={"ref": ref})
    assert house.files() == []


def test_a_bad_model_beside_a_warehouse(house, source):
    house.night(source)
    before = house.tables()
    with pytest.raises(UsageError, match="no model 'no-such-version'"):
        house.prepare(source, model={"ref": "no-such-version"})
    with house.warehouse.begin() as transaction:
        transaction.update("model_versions", {}, {"uri": str(house.folder / "gone")})
    with pytest.raises(ModelError, match="gone"):
        house.prepare(source, model={"ref": before["model_versions"]["version"].item()})
    assert len(house.read("extraction_runs")) == 1


def test_a_warehouse_that_is_none(house, source):
    (house.folder / "warehouse.db").write_bytes(b"no database" * 999)
    with pytest.raises(RunError, match="not a database"):
        house.prepare(source)
    assert house.files() == ["warehouse.db"]


def test_a_damaged_file_fails_the_run_and_leaves_the_tables(house, source, tmp_path):
    house.night(source)
    before = house.tables()
    rows = make_reviews(60, seed=2)
    write(tmp_path / "in" / "a.parquet", rows[:30])
    damaged = write(tmp_path / "in" / "b.parquet", rows[30:], compression="uncompressed")
    content = bytearray(damaged.read_bytes())
    content[4:400] = b"\xff" * 396
    damaged.write_bytes(content)
    with pytest.raises(RunError, match=r"cannot read on in .*b\.parquet, which may have to be replaced: "):
        house.night(tmp_path / "in")
    assert_equal_tables(house.tables(), before)
    failed = house.read("extraction_runs", status="failed").row(0, named=True)
    assert "b.parquet" in failed["error"]
    assert failed["finished_at"] >= failed["started_at"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RunError("lost\nsql://me:secret@host/db  twice"), "lost sql://me:***@host/db twice"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
@pytest.mark.parametrize("stage", ["plan", "extract", "publish"])
def test_the_reason_is_in_the_ledger(house, source, monkeypatch, error, reason, stage):
    name = {"plan": "make_plan", "extract": "extract_shard", "publish": "publish"}[stage]

    def fail(*_args: Any, **_options: Any):
        raise error

    monkeypatch.setattr(f"ecner.nightly.run.{name}", fail)
    with pytest.raises(type(error)):
        house.night(source)
    run = house.read("extraction_runs").row(0, named=True)
    assert (run["status"], run["error"]) == ("failed", reason)
    assert run["model_version"]
    assert house.read("mentions").is_empty()


def test_an_unreachable_warehouse_does_not_hide_the_reason(house, source):
    night = house.prepare(source)

    def fail():
        with night.ledger():
            night.plan()
            (house.folder / "warehouse.db").write_bytes(b"no database" * 999)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_a_run_that_was_not_closed_is_abandoned(house, source):
    left = house.prepare(source)
    with left.ledger():
        left.plan()
    report = house.night(source)
    statuses = dict(house.read("extraction_runs").select("run_id", "status").iter_rows())
    assert statuses == {left.run_id: "abandoned", report.plan.run_id: "succeeded"}
    assert house.read("extraction_runs", status="abandoned")["finished_at"].null_count() == 0


def test_a_run_that_was_taken_for_dead_publishes_nothing(house, source, other_model):
    late = house.prepare(source, model={"ref": str(other_model)})

    def fail():
        with late.ledger():
            plan = late.plan()
            extracted = [late.extract(shard, plan) for shard in plan.shards]
            with house.warehouse.begin() as transaction:  # as after a long silence
                transaction.update("leases", {}, {"expires_at": datetime(2026, 1, 1, tzinfo=UTC)})
            house.night(source)
            nonlocal before
            before = house.tables()
            late.publish(plan, extracted)

    before = None
    with pytest.raises(LeaseError, match="another run has taken over the warehouse"):
        fail()
    assert_equal_tables(house.tables(), before)
    assert sorted(house.read("extraction_runs")["status"]) == ["abandoned", "succeeded"]


def test_a_warehouse_that_is_held(house, source):
    first, second = house.prepare(source), house.prepare(source)
    with first.ledger():
        with pytest.raises(LeaseError, match=f"is held by the run {first.run_id} .* run again when it has ended"):
            run_night(second)
        assert house.read("extraction_runs").is_empty()
    run_night(second)


def test_a_commit_that_was_never_confirmed(house, source, monkeypatch):
    """The connection breaks behind the commit: the second attempt finds that all is done."""
    publish, calls = run.publish, []

    def unconfirmed(*args: Any, **options: Any):
        calls.append(1)
        publish(*args, **options)
        if len(calls) == 1:
            raise TransientError("the connection was lost")

    monkeypatch.setattr(run, "publish", unconfirmed)
    report = house.night(source)
    assert len(calls) == 2
    assert house.run(report)["status"] == "succeeded"
    assert len(house.read("review_coverage")) == 90


def test_a_run_that_succeeded_stays_so(house, source, monkeypatch):
    """The tables are there, whatever goes wrong behind the commit."""
    monkeypatch.setattr("ecner.nightly.run.make_report", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        house.night(source)
    assert house.read("extraction_runs")["status"].to_list() == ["succeeded"]
    assert len(house.read("review_coverage")) == 90


@pytest.mark.parametrize(("days", "kept"), [(0, False), (7, True)])
def test_old_files_are_cleared(house, source, days, kept):
    first = house.night(source, lake={"uri": str(house.folder / "lake"), "keep_days": days})
    assert bool(house.lake.names("runs")) == bool(house.lake.names("readings")) == kept
    assert house.lake.names("tables")
    long_ago = datetime.now(UTC) - timedelta(days=8)
    for path in house.folder.glob("lake/readings/*/*"):
        os.utime(path, (long_ago.timestamp(), long_ago.timestamp()))
    with house.warehouse.begin() as transaction:
        transaction.update("extraction_runs", {}, {"finished_at": long_ago})
    second = house.night(source)
    assert [entry.name for entry in house.lake.entries("runs")] == [second.plan.run_id] != [first.plan.run_id]
    assert not house.lake.names("readings")


def test_too_many_rejections_stop_the_night(house, rows, tmp_path):
    good = [row for row in rows if row["text"] and row["text"].strip()]
    house.night(write(tmp_path / "a.parquet", good[:50]))
    before = house.tables()
    source = write(tmp_path / "b.parquet", rows)
    limit = {"max_rejected_share": 0.05}
    with pytest.raises(RunError, match=r"5 of 95 rows were rejected \(.*null_id 1.*\), more than .* 0.05: nothing"):
        house.night(source, run=limit)
    assert_equal_tables(house.tables(), before)
    assert house.read("extraction_runs", status="failed")["error"][0].startswith("5 of 95 rows were rejected")
    assert house.night(source, run={"max_rejected_share": 0.06}).plan.reviews_rejected == 5


def test_too_little_room_is_told_before_anything_is_read(house, source, monkeypatch):
    total = shutil.disk_usage(house.folder).total
    for name, told in (("_LAKE", "95 rows to plan"), ("_WAREHOUSE", "90 reviews to publish")):
        with monkeypatch.context() as patch:
            patch.setattr(room, f"{name}_BYTES_A_ROW", total)
            with pytest.raises(RunError, match=rf"{told} need about .* GB at .*: make room"):
                house.night(source)
        assert house.read("review_coverage").is_empty()
        assert not house.lake.names("readings")


def test_shards_are_reported_as_they_are_read(house, source):
    seen = []

    def progress(shards):
        for shard in shards:
            seen.append(shard)
            yield shard

    report = run_night(house.prepare(source), progress=progress)
    assert tuple(seen) == report.plan.shards


def test_runs_are_told_apart(house, source):
    nights = [house.prepare(source) for _ in range(3)]
    assert len({night.run_id for night in nights}) == 3
    assert sorted(night.run_id[:15] for night in nights) == [night.run_id[:15] for night in nights]


def test_a_lexicon_of_ones_own(house, source, tmp_path):
    house.night(source)
    before = house.read("mentions")
    surface = before["surface"].mode()[0]
    entity_type = before.filter(surface=surface)["entity_type"][0]
    (tmp_path / "names.yaml").write_text(f"{entity_type}: {{ours: ['{surface}']}}", "utf-8")
    run = house.run(house.night(source, model={"ref": str(house.model), "lexicon": tmp_path / "names.yaml"}))
    assert run["texts_inferred"] == 0
    renamed = house.read("mentions").filter(surface=surface, entity_type=entity_type)
    assert renamed["canonical"].unique().to_list() == ["ours"]


def test_a_threshold_of_a_type_that_the_model_does_not_find(house, source):
    with pytest.raises(UsageError, match="min_confidence names brnad: expected types"):
        house.night(source, model={"ref": str(house.model), "min_confidence": {"brnad": 0.5}})
    assert house.files() == []


@pytest.mark.parametrize("broken", ["page", "lease"])
def test_a_night_stands_without_its_page(house, source, monkeypatch, broken):
    def fail(*_: object) -> None:
        raise ValueError("no chart\nat all")

    night = house.prepare(source)
    if broken == "page":
        monkeypatch.setattr(run, "write_page", fail)
    else:
        monkeypatch.setattr(run, "write_page", lambda settings, check: write_page(settings, fail))
    report = run_night(night, page=True)
    assert report.page == "not written: no chart at all"
    assert "page       not written: no chart at all" in report.to_text()
    assert house.run(report)["status"] == "succeeded"
    assert not [name for name in house.files() if name.endswith(".html")]
