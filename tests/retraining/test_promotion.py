import shutil
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ecner import registry
from ecner.errors import ModelError, RunError, UsageError
from ecner.inference.reader import Reader
from ecner.nightly.run import run_night
from ecner.registry import ModelVersion, register, resolve
from ecner.retraining.bridge import Bridge, Champion, find_champion, read_bridge
from ecner.retraining.overlap import recent_reviews
from ecner.retraining.promotion import enter_promotion, promote, rollback
from ecner.schema import TABLES
from ecner.storage.warehouse import Warehouse
from tests.nightly.house import House
from tests.nightly.reviews import make_reviews, train_tiny, write
from tests.tables import assert_equal_tables

SAMPLE = 25
OF_PROMOTION = ("model_versions", "model_evaluations", "model_promotions", "model_bridge")
MODEL = {"ref": "champion", "device": "cpu", "min_confidence": {"brand": 0.8}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three models that do not agree; the first is the shipped one."""
    folder = tmp_path_factory.mktemp("promotion")
    steps = {"assets/model": 25, "b": 8, "c": 12}
    return [train_tiny(folder / name, seed, count) for seed, (name, count) in enumerate(steps.items())]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("source") / "all.parquet", make_reviews(90))


@pytest.fixture
def house(tmp_path, folders, monkeypatch):
    monkeypatch.setattr(registry, "asset", folders[0].parent.joinpath)
    return House(tmp_path, folders[0])


def configured(house: House, source: Path, **sections: Any):
    return house.settings(source, **{"model": MODEL, "train": {"overlap_reviews": SAMPLE}} | sections)


def statuses(house: House):
    return dict(house.read("model_versions").select("version", "status").iter_rows())


def history(house: House):
    rows = house.read("model_promotions").sort("promotion_no")
    return rows.select("promotion_no", "action", "version", "previous_version").rows()


def found_by(house: House, folder: Path, source: Path, settings):
    """Mentions per entity and per type in the sample's reviews, out of a night that a model reads wholly."""
    place = replace(house, folder=house.folder / f"alone {folder.name}")
    place.folder.mkdir(exist_ok=True)
    place.night(source, model=MODEL | {"ref": str(folder)})
    mentions = place.read("mentions").filter(
        pl.col("review_id").is_in(recent_reviews(settings, SAMPLE)["review_id"].to_list())
    )
    return pl.concat(
        [
            mentions.group_by("entity_type", "canonical").len(),
            mentions.group_by("entity_type").len().select("entity_type", pl.lit("*").alias("canonical"), "len"),
        ]
    )


def assert_bridged(house: House, source: Path, old: tuple[str, Path], new: tuple[str, Path]):
    settings = configured(house, source)
    left, right = (found_by(house, folder, source, settings) for _, folder in (old, new))
    expected = left.join(right, on=["entity_type", "canonical"], how="full", coalesce=True, suffix="_new").select(
        old_version=pl.lit(old[0]),
        new_version=pl.lit(new[0]),
        entity_type="entity_type",
        canonical="canonical",
        old_count=pl.col("len").fill_null(0).cast(pl.Int64),
        new_count=pl.col("len_new").fill_null(0).cast(pl.Int64),
        reviews=pl.lit(SAMPLE, pl.Int64),
    )
    bridge = house.read("model_bridge", old_version=old[0], new_version=new[0])
    assert_frame_equal(bridge, expected, check_row_order=False)
    assert not expected["old_count"].equals(expected["new_count"])


def test_promote_extract_roll_back_extract(house, folders, tmp_path):
    """Tables and registry agree at each step, and nothing is lost."""
    (first, second), rows = folders[:2], make_reviews(90)
    old, new = resolve("default").version, resolve(str(second)).version
    nights = [write(tmp_path / f"{count}.parquet", rows[:count]) for count in (40, 65, 90)]
    house.night(nights[0], model=MODEL)
    before = house.tables()

    promotion = promote(configured(house, nights[0]), str(second))
    assert (promotion.version, promotion.previous_version, promotion.action) == (new, old, "promotion")
    assert statuses(house) == {old: "archived", new: "champion"}
    assert_equal_tables(house.tables(), before, but=OF_PROMOTION)
    assert_bridged(house, nights[0], (old, first), (new, second))

    assert house.run(house.night(nights[1], model=MODEL))["model_version"] == new
    assert_read_by(house, rows, {old: rows[:40], new: rows[40:65]}, before)
    between = house.tables()

    assert rollback(configured(house, nights[1])).version == old
    assert statuses(house) == {old: "champion", new: "archived"}
    assert_equal_tables(house.tables(), between, but=OF_PROMOTION)
    assert_bridged(house, nights[1], (new, second), (old, first))

    assert house.run(house.night(nights[2], model=MODEL))["model_version"] == old
    assert_read_by(house, rows, {old: rows[:40] + rows[65:], new: rows[40:65]}, between)
    assert history(house) == [(1, "promotion", new, old), (2, "rollback", old, new)]
    assert house.read("model_promotions")["promoted_at"].is_sorted()


def assert_read_by(house: House, rows: list[dict[str, Any]], read: dict[str, list[dict[str, Any]]], before):
    """Each review is covered by one version, and what was published of the others is as it was."""
    coverage = house.read("review_coverage")
    by_version = {version: {row["review_id"] for row in part} for version, part in read.items()}
    assert len(coverage) == sum(map(len, by_version.values()))
    assert {
        version: set(part["review_id"])
        for (version,), part in coverage.partition_by("model_version", as_dict=True).items()
    } == by_version
    mentions, known = house.tables()["mentions"], before["mentions"]
    kept = mentions.filter(pl.col("review_id").is_in(before["review_coverage"]["review_id"].to_list()))
    assert_frame_equal(kept, known)


def test_a_night_during_a_promotion_writes_one_version(house, folders, source):
    old = resolve("default").version
    night = house.prepare(source, model=MODEL)
    with night.ledger():
        plan = night.plan()
        new = promote(configured(house, source), str(folders[1])).version
        night.publish(plan, [night.extract(shard, plan) for shard in plan.shards])
    assert house.read("review_coverage")["model_version"].unique().to_list() == [old]
    assert house.read("mentions")["model_version"].unique().to_list() == [old]
    assert find_champion(house.address).version == new
    assert run_night(house.prepare(source, model=MODEL)).plan.model.version == new


def test_the_history_is_a_stack(house, folders, source):
    settings = configured(house, source)
    a, b, c = resolve("default").version, *(resolve(str(folder)).version for folder in folders[1:])
    with pytest.raises(UsageError, match="there is no warehouse"):
        rollback(settings)
    promote(settings, str(folders[1]))
    promote(settings, str(folders[2]))
    assert [rollback(settings).version for _ in range(2)] == [b, a]
    with pytest.raises(UsageError, match="no promotion to go back from"):
        rollback(settings)
    promote(settings, c)
    promote(settings, "default")
    assert [rollback(settings).version for _ in range(2)] == [c, a]
    with pytest.raises(UsageError, match="no promotion to go back from"):
        rollback(settings)
    assert [(action, version) for _, action, version, _ in history(house)] == [
        ("promotion", b), ("promotion", c), ("rollback", b), ("rollback", a),
        ("promotion", c), ("promotion", a), ("rollback", c), ("rollback", a),
    ]  # fmt: skip
    assert statuses(house) == {a: "champion", b: "archived", c: "archived"}


def test_a_rollback_to_a_shipped_model_leads_to_that_of_this_installation(
    house, folders, source, tmp_path, monkeypatch
):
    settings = configured(house, source)
    promote(settings, str(folders[1]))
    shutil.copytree(folders[2], tmp_path / "newer/model")
    monkeypatch.setattr(registry, "asset", (tmp_path / "newer").joinpath)
    assert rollback(settings).version == resolve("default").version
    assert find_champion(house.address).model == resolve("default")


@pytest.mark.parametrize("ref", ["default", "champion"])
def test_promoting_the_champion_changes_nothing(house, source, ref):
    promotion = promote(configured(house, source), ref)
    assert promotion.to_text() == f"{resolve('default').version} is the champion already: nothing changed"
    assert not (house.folder / "warehouse.db").exists()


def test_what_a_promotion_tells(house, folders, source):
    promotion = promote(configured(house, source), str(folders[1]))
    counts = house.read("model_bridge", canonical="*", entity_type="brand").row(0, named=True)
    lines = promotion.to_text().splitlines()
    assert lines[0] == f"{promotion.version} is champion now, {promotion.previous_version} was before (promotion)"
    assert lines[1] == f"mentions in {SAMPLE} recent reviews"
    assert f"brand {counts['old_count']} -> {counts['new_count']}".split() in [line.split() for line in lines[2:]]


def test_a_model_that_cannot_be_had(house, folders, source, tmp_path):
    settings = configured(house, source)
    house.night(source, model=MODEL)
    folder = shutil.copytree(folders[1], tmp_path / "own")
    with house.warehouse.begin() as transaction:
        register(transaction, resolve(str(folder)))
    version, before = resolve(str(folder)).version, house.tables()
    with pytest.raises(UsageError, match="no model 'nosuch'"):
        promote(settings, "nosuch")
    (folder / "config.json").write_text("{oops")
    with pytest.raises(ModelError, match="cannot load the model"):
        promote(settings, version)
    (folder / "model.safetensors").unlink()
    shutil.copy(folders[2] / "model.safetensors", folder)
    with pytest.raises(ModelError, match=f"the weights of {version} are gone"):
        promote(settings, version)
    shutil.rmtree(folder)
    with pytest.raises((ModelError, UsageError), match="own"):
        promote(settings, version)
    with pytest.raises(UsageError, match="no Parquet file"):
        promote(configured(house, tmp_path / "nothing"), str(folders[1]))
    assert_equal_tables(house.tables(), before)


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda folder: (folder / "config.json").write_text("{oops")])
def test_a_champion_that_is_gone_leaves_no_bridge_and_says_so(house, folders, source, tmp_path, damage):
    settings = configured(house, source)
    folder = shutil.copytree(folders[1], tmp_path / "own")
    gone = promote(settings, str(folder)).version
    damage(folder)
    promotion = promote(settings, str(folders[2]))
    assert promotion.previous_version == gone
    assert "\nwarning: no bridge between the two was written: " in promotion.to_text()
    assert statuses(house)[promotion.version] == "champion"
    assert house.read("model_bridge", old_version=gone).is_empty()
    with pytest.raises(ModelError):
        rollback(settings)
    assert statuses(house)[promotion.version] == "champion"


def test_a_name_that_is_a_star_is_not_taken_for_the_whole_type(house, folders, source, tmp_path):
    (tmp_path / "names.yaml").write_text("brand: {'*': [小米, 华为]}", "utf-8")
    settings = configured(house, source, model=MODEL | {"lexicon": tmp_path / "names.yaml"})
    promote(settings, str(folders[1]))
    starred, plain = house.read("model_bridge", canonical="*", entity_type="brand"), house.read("model_bridge")
    rollback(configured(house, source))
    promote(configured(house, source), str(folders[1]))
    pair = plain.select("old_version", "new_version").row(0)
    again = house.read("model_bridge", canonical="*", entity_type="brand").filter(old_version=pair[0])
    assert_frame_equal(starred, again)


@pytest.fixture
def entered(warehouse, house, folders):
    """A warehouse on each database that knows three models, and bridges from its champion to either other."""
    models = [resolve("default"), *(resolve(str(folder)) for folder in folders[1:])]
    with warehouse.begin() as transaction:
        for model in models:
            register(transaction, model)
    return warehouse, [empty_bridge(models[0], model) for model in models[1:]]


def empty_bridge(old: ModelVersion, new: ModelVersion):
    return Bridge(Champion(old.version, old), new, 0, pl.DataFrame(schema=TABLES["model_bridge"].polars_schema))


def assert_one_change(warehouse: Warehouse):
    with warehouse.connect() as reader:
        champion = reader.read("model_versions", where={"status": "champion"})
        changes = reader.read("model_promotions")
    assert len(champion) == len(changes) == 1
    assert champion["version"].item() == changes["version"].item()


def test_of_two_promotions_at_once_one_is_made(entered):
    warehouse, bridges = entered
    start, outcomes = Barrier(len(bridges)), []

    def enter(bridge: Bridge):
        start.wait()
        try:
            with warehouse.begin() as transaction:
                enter_promotion(transaction, bridge)
            outcomes.append("entered")
        except RunError as error:
            outcomes.append(str(error))

    threads = [Thread(target=enter, args=[bridge]) for bridge in bridges]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted("run again" in outcome for outcome in outcomes) == [False, True], outcomes
    assert_one_change(warehouse)


def test_a_promotion_that_another_has_overtaken_changes_nothing(entered):
    warehouse, (one, other) = entered
    with warehouse.begin() as transaction:
        enter_promotion(transaction, one)
    with pytest.raises(RunError, match="is no longer the champion"), warehouse.begin() as transaction:
        enter_promotion(transaction, other)
    assert_one_change(warehouse)


def test_a_bridge_takes_the_place_of_an_earlier_one(entered):
    warehouse, (there, _) = entered
    back = empty_bridge(there.new, there.champion.model)
    bridges = [with_counts(bridge, count) for bridge, count in ((there, 1), (back, 2), (there, 3), (back, 4))]
    gone = replace(there, problem="the weights are gone")
    for bridge in [*bridges, gone]:
        with warehouse.begin() as transaction:
            enter_promotion(transaction, bridge)
    with warehouse.connect() as reader:
        kept = reader.read("model_bridge")
        numbers = reader.read("model_promotions", order_by=["promotion_no"])["promotion_no"].to_list()
    assert_frame_equal(kept, pl.concat([bridges[2].counts, bridges[3].counts]), check_row_order=False)
    assert numbers == [1, 2, 3, 4, 5]


def with_counts(bridge: Bridge, count: int):
    pair = {"old_version": bridge.champion.version, "new_version": bridge.new.version}
    rows = [
        {**pair, "entity_type": "brand", "canonical": name, "old_count": count, "new_count": 0, "reviews": 9}
        for name in ("*", f"{count}")
    ]
    return replace(bridge, counts=pl.DataFrame(rows, schema=TABLES["model_bridge"].polars_schema))


def test_what_is_entered_beside_a_promotion_fails_with_it(entered, house, source):
    warehouse, (one, _) = entered

    def fail():
        with warehouse.begin() as transaction:
            enter_promotion(transaction, one)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with warehouse.connect() as reader:
        assert reader.read("model_promotions").is_empty()


def test_the_models_read_each_text_once(house, folders, tmp_path, monkeypatch):
    rows = [row | {"text": "小米手机"} for row in make_reviews(30)]
    settings = configured(house, write(tmp_path / "same.parquet", rows))
    read, really = [], Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, texts: read.append(len(texts)) or really(self, texts))
    bridge = read_bridge(settings, find_champion(house.address), resolve(str(folders[1])))
    assert read == [1, 1]
    counts = bridge.counts.select("old_count", "new_count").to_numpy()
    assert (counts % SAMPLE == 0).all()
    assert counts.any()
