"""Decisions: the history under other names, who said so and when, and back again; no text and no span is looked at."""

from collections import Counter
from datetime import UTC, date, datetime
from random import Random

import polars as pl
import pytest

from ecner.config import Settings
from ecner.errors import LeaseError, UsageError
from ecner.linking.decide import Decision, decide
from ecner.linking.suggest import suggest
from ecner.nightly.decisions import read_links
from ecner.nightly.recompute import recompute
from ecner.nightly.rules import Rules
from ecner.schema import TABLES
from ecner.storage.lease import Lease
from ecner.storage.query import run_query

EVALUATED_ON = ["test"]
SURFACES = {
    "brand": ["联想", "聯想", "Lenovo", "lenove", "小米"],
    "model_number": ["X200", "X-200"],
    "product": ["电脑"],
}
DAYS = [date(2026, 11, day) for day in (1, 2, 9)]


@pytest.fixture
def settings(place, tmp_path):
    (tmp_path / "lexicon.yaml").write_text("brand: {小米: [xiaomi]}\n", "utf-8")
    return Settings.model_validate({
        "warehouse": {"url": place[0], "schema": place[1]},
        "lake": {"uri": str(tmp_path / "lake")},
        "model": {"lexicon": tmp_path / "lexicon.yaml", "evaluated_on": EVALUATED_ON},
        "source": {"uri": "nowhere.parquet"},
    })  # fmt: skip


@pytest.fixture
def published(warehouse):
    """A warehouse with mentions under the names that a night gives them, but no cached span."""
    names = {"联想": "联想", "聯想": "联想", "Lenovo": "lenovo", "lenove": "lenove", "小米": "小米"} | {
        "X200": "x200", "X-200": "x200", "电脑": "电脑",
    }  # fmt: skip
    coverage, mentions = [], []
    for number in range(24):
        day, text_hash = DAYS[number % 3], f"{number:032x}"
        shared = {"product_id": "p", "review_date": day, "text_hash": text_hash, "model_version": "m", "run_id": "r"}
        coverage.append({
            **shared, "review_id": str(number), "rating": None, "created_at": None, "updated_at": None, "chars": 9,
            "chars_read": 9, "windows": 1, "mention_count": 3, "fingerprint": "f",
        })  # fmt: skip
        for mention_no, (kind, surfaces) in enumerate(SURFACES.items(), 1):
            surface = surfaces[number % len(surfaces)]
            mentions.append({
                **shared, "review_id": str(number), "mention_no": mention_no, "entity_type": kind, "surface": surface,
                "canonical": names[surface], "start_char": 2 * mention_no, "end_char": 2 * mention_no + 1,
                "confidence": 0.5,
            })  # fmt: skip
    with warehouse.begin() as transaction:
        transaction.append("review_coverage", pl.DataFrame(coverage, infer_schema_length=None))
        transaction.append("mentions", pl.DataFrame(mentions))
        recompute(transaction, set(DAYS), EVALUATED_ON)
    return warehouse


def brands(place):
    return dict(
        run_query(*place, "select canonical, mention_count from entities where entity_type = 'brand'").iter_rows()
    )


def said(action, alias, canonical, by="ann", entity_type="brand"):
    return Decision(action, entity_type, alias, canonical, by)


def walked(name, links):
    for _ in links:
        name = links.get(name, name)
    assert name not in links
    return name


def derived(warehouse):
    daily, periods = ("entity_daily", "entity_pairs_daily"), ("entity_periods", "type_periods", "pair_periods")
    tables = ("mentions", *daily, *periods, "entity_movements")
    with warehouse.connect() as reader:
        return {name: sorted(map(repr, reader.read(name).rows())) for name in tables}


def test_accept_and_take_back(settings, published, place):
    before = derived(published)
    assert brands(place) == {"联想": 10, "lenovo": 5, "lenove": 5, "小米": 4}
    decided = decide(settings, said("accept", "LENOVO", "聯 想"))
    assert decided.days == tuple(DAYS)
    assert decided.to_text() == "brand lenovo is counted as 联想, says ann; 3 day(s) computed anew"
    assert brands(place) == {"联想": 15, "lenove": 5, "小米": 4}
    decide(settings, said("accept", "lenove", "lenovo", by="bob"))
    assert brands(place) == {"联想": 20, "小米": 4}
    weekly = "select sum(mention_count) as n from top_entities_weekly where canonical = '联想'"
    assert run_query(*place, weekly).item() == 20
    copied = pl.read_parquet(f"{settings.lake.uri}/tables/mentions/**/*.parquet")
    assert set(copied.filter(entity_type="brand")["canonical"]) == {"联想", "小米"}
    history = run_query(*place, "link_history").sort("decision_no")
    assert history.select("decided_by", "action", "alias", "canonical").rows() == [
        ("ann", "accept", "lenovo", "联想"),
        ("bob", "accept", "lenove", "lenovo"),
    ]
    assert all((datetime.now(UTC) - when).total_seconds() < 600 for when in history["decided_at"])
    decide(settings, said("reject", "lenove", "lenovo"))
    assert brands(place) == {"联想": 15, "lenove": 5, "小米": 4}
    decide(settings, said("reject", "lenovo", "联想"))
    assert derived(published) == before


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (said("accept", "Lenovo", "LENOVO"), "one name already, 'lenovo'"),
        (said("accept", "lenovo", "华为"), "no brand is counted as '华为'"),
        (said("reject", "华为", "lenovo"), "no brand is counted as '华为'"),
        (said("accept", "lenovo", "联想", entity_type="product"), "no product is counted as 'lenovo'"),
        (said("accept", "lenovo\n", "联想"), "as the name: expected printable"),
        (said("accept", "lenovo", "\udcff"), r"got '\\udcff' as the name: expected"),
        (said("accept", "lenovo", "联想", by=" "), "got ' ' as the name of who decides"),
        (said("accept", "lenovo", "联想", by="ann\x1b[2J"), "as the name of who decides"),
    ],
)
def test_what_cannot_be_decided(settings, published, place, decision, message):
    before = derived(published)
    with pytest.raises(UsageError, match=message):
        decide(settings, decision)
    assert run_query(*place, "link_decisions").is_empty()
    assert derived(published) == before


def test_a_link_that_leads_back_is_refused_however_it_came_about(settings, published, place):
    decide(settings, said("accept", "lenovo", "联想"))
    decide(settings, said("accept", "lenove", "lenovo"))
    with pytest.raises(UsageError, match="'lenove' is counted as 'lenovo', that as '联想': reject that first"):
        decide(settings, said("accept", "联想", "lenove"))
    decide(settings, said("accept", "lenovo", "小米"))  # another word on lenovo, which lenove follows
    with pytest.raises(UsageError, match="'lenove' is counted as 'lenovo', that as '小米': reject that first"):
        decide(settings, said("accept", "lenovo", "lenove"))
    with published.connect() as reader:
        assert read_links(reader) == {"brand": {"lenovo": "小米", "lenove": "小米"}}
    assert brands(place) == {"联想": 10, "小米": 14}


def test_decisions_in_any_order_lead_to_an_end(settings, published, place):
    """Against links kept in a plain dictionary, walked step by step."""
    random, stands, refused = Random(6), {}, 0  # noqa: S311
    names = {"联想": 10, "lenovo": 5, "lenove": 5, "小米": 4}
    for _ in range(12):
        action = random.choice(["accept", "accept", "reject"])
        alias, canonical = random.sample(list(names), 2)
        try:
            decide(settings, said(action, alias, canonical))
        except UsageError:
            refused += 1
            direct = {alias: canonical, canonical: alias}.items() & stands.items()
            assert not direct or action == "accept"
            assert walked(alias, stands) == walked(canonical, stands)
            continue
        if action == "accept":
            stands[alias] = canonical
        else:
            stands = {a: b for a, b in stands.items() if {a, b} != {alias, canonical}}
        counted = Counter()
        for name, count in names.items():
            counted[walked(name, stands)] += count
        assert brands(place) == counted
    assert 0 < refused < 9


def test_what_was_linked_is_taken_back_whichever_way_it_is_said(settings, published, place):
    before = derived(published)
    decide(settings, said("accept", "lenovo", "联想"))
    assert len(decide(settings, said("reject", "联想", "lenovo")).days) == 3
    assert derived(published) == before
    decide(settings, said("accept", "lenove", "lenovo"))
    decide(settings, said("accept", "lenovo", "联想"))
    with pytest.raises(UsageError, match="'lenove' is counted as 'lenovo', that as '联想': reject one of these steps"):
        decide(settings, said("reject", "lenove", "联想"))
    decide(settings, said("accept", "小米", "联想"))
    with pytest.raises(UsageError, match="that as '联想' and '小米' is counted as '联想': reject one of these steps"):
        decide(settings, said("reject", "lenove", "小米"))
    decide(settings, said("reject", "小米", "联想"))
    decide(settings, said("reject", "lenove", "lenovo"))
    assert brands(place) == {"联想": 15, "lenove": 5, "小米": 4}


def test_a_link_of_names_that_are_found_no_more_can_be_taken_back(settings, published, place):
    decide(settings, said("accept", "lenove", "lenovo"))
    with published.begin() as transaction:
        transaction.delete_all("mentions", {"canonical": "lenovo"})
        recompute(transaction, set(DAYS), EVALUATED_ON)
    decide(settings, said("reject", "lenove", "lenovo"))
    with published.connect() as reader:
        assert read_links(reader) == {"brand": {}}


def test_tables_under_other_rules_are_left_alone(settings, published, place):
    counts = ("reviews_in", "reviews_rejected", "texts_unique", "texts_cached", "texts_inferred", "mentions_out")
    run = {"run_id": "r", "source": "s", "status": "succeeded", "started_at": datetime.now(UTC), "model_version": "m"}
    told = pl.DataFrame([run | dict.fromkeys(counts, 0) | {"publish_hash": Rules.of(settings.model).digest}])
    with published.begin() as transaction:
        nothing = TABLES["extraction_runs"].polars_schema.to_frame()
        transaction.append("extraction_runs", pl.concat([nothing, told], how="diagonal_relaxed"))
    decide(settings, said("accept", "lenove", "lenovo"))
    before = derived(published)
    settings.model.lexicon.write_text("brand: {联想: [lenovo]}\n", "utf-8")
    with pytest.raises(UsageError, match="the tables stand under another lexicon"):
        decide(settings, said("accept", "小米", "联想"))
    assert derived(published) == before
    assert len(run_query(*place, "link_decisions")) == 1


def test_where_there_is_no_warehouse_none_is_made(tmp_path):
    settings = Settings.model_validate({
        "warehouse": {"url": f"sqlite:///{tmp_path}/none.db"}, "lake": {"uri": str(tmp_path / "lake")},
        "source": {"uri": "nowhere.parquet"},
    })  # fmt: skip
    for act in (suggest, lambda settings: decide(settings, said("accept", "a", "b"))):
        with pytest.raises(UsageError, match="there is no warehouse"):
            act(settings)
    assert list(tmp_path.iterdir()) == []


def test_nobody_decides_or_suggests_while_a_run_is_at_work(settings, published):
    with Lease(published, "night", 60):
        for act in (suggest, lambda settings: decide(settings, said("accept", "lenove", "lenovo"))):
            with pytest.raises(LeaseError, match="night"):
                act(settings)


def test_the_queue_and_what_leaves_it(settings, published, place):
    spans = [
        ("none", "HPPX", "联想", 0, "", "/Lianxiang"), ("none", "HPPX", "Lianxiang", 3, "联想/", ""),
        ("1", "HPPX", "联想", 0, "", "/Lenovo笔记本"), ("1", "HPPX", "Lenovo", 3, "联想/", "笔记本"),
        ("2", "HPPX", "lenovo", 2, "新的", "笔记本"), ("3", "HPPX", "lenove", 2, "新的", "笔记本"),
        ("4", "XH", "X2OO", 0, "", ""), ("4", "XH", "X200", 9, "", ""), ("5", "HPPX", "小米", 0, "", "x"),
        ("6", "HPPX", "联想", 0, "", "(lenovo)"), ("6", "HPPX", "lenovo", 3, "联想(", ")"),
        ("7", "MISC", "40", 0, "", ""), ("7", "MISC", "40%", 9, "", ""),
    ]  # fmt: skip
    rows = [
        {
            "fingerprint": fingerprint, "text_hash": text.zfill(32), "span_no": number, "label": label,
            "start_char": start, "end_char": start + len(surface), "confidence": 0.5, "surface": surface,
            "left_context": left, "right_context": right,
        }
        for number, (text, label, surface, start, left, right) in enumerate(spans)
        for fingerprint in "ef"  # another model has read the texts before
    ]  # fmt: skip
    with published.begin() as transaction:
        transaction.append("text_spans", pl.DataFrame(rows))
    before = derived(published)
    queue = suggest(settings)
    assert {tuple(row) for row in queue.select("alias", "canonical", "kind").rows()} == {
        ("lenovo", "联想", "together"), ("lenove", "lenovo", "spelling"), ("x2oo", "x200", "spelling"),
    }  # fmt: skip
    best = queue.row(by_predicate=pl.col("alias") == "lenovo", named=True)
    counts = ("alias_count", "canonical_count", "together_count", "adjacent_count", "shared_slots")
    assert [best[name] for name in counts] == [3, 2, 2, 2, 0]
    assert (best["alias_example"], best["canonical_example"]) == ("联想/[Lenovo]笔记本", "[联想]/Lenovo笔记本")
    assert derived(published) == before  # nothing is linked by itself
    decide(settings, said("accept", "lenovo", "联想"))
    decide(settings, said("reject", "lenovo", "lenove"))  # whichever way round
    assert run_query(*place, "link_queue")["alias"].to_list() == ["x2oo"]
    assert {*suggest(settings)["alias"]} == {"x2oo"}


def test_a_night_after_a_decision_names_by_it(published, settings, place):
    decide(settings, said("accept", "lenovo", "联想"))
    decide(settings, said("accept", "联想", "小米"))
    decide(settings, said("accept", "lenove", "lenovo"))
    with published.connect() as reader:
        assert read_links(reader) == {"brand": {"lenovo": "小米", "lenove": "小米", "联想": "小米"}}
