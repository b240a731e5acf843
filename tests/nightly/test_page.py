"""The page holds what the views say, whatever is in the tables, and no more."""

import base64
import re
import sqlite3
import xml.etree.ElementTree as ET
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given

from ecner.config import Address, Settings
from ecner.errors import LeaseError
from ecner.nightly.figures import TYPES
from ecner.nightly.page import make_page, remove_page, write_page
from ecner.storage.query import run_query
from ecner.storage.warehouse import Warehouse
from tests.commands import complaint, invoke
from tests.sql.nights import A_FEW_NIGHTS, FIRST, night, nights, publish

NASTY = "</script><img src=x onerror=alert(1)><b>&amp;\u202e\x07\"'"
SHOWN = NASTY.replace("\u202e", "\ufffd").replace("\x07", "\ufffd")
VOID = {"meta", "img"}
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "script", "figure", "figcaption"),
    *("strong", "img", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td"),
}


class Parsed(HTMLParser):
    """A page's sections: titles, each with its tables (note, head and rows), tiles, pictures and paragraphs."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.open, self.attributes = set(), [], []
        self.sections, self.words = {}, []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag == "tr":
            self.section["rows"].append([])
        if tag not in VOID:
            self.open.append(tag)
            self.words.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        words = self.words.pop()
        if tag == "h2":
            self.section = self.sections.setdefault(words, {"rows": [], "told": []})
        elif tag in {"td", "th"}:
            self.section["rows"][-1].append(words)
        elif tag in {"dt", "dd", "p", "figcaption"}:
            self.section["told"].append(words)
        elif self.words:
            self.words[-1] += words

    def handle_data(self, data):
        if self.words:
            self.words[-1] += data

    def table(self, title, head):
        """Rows of the section's table whose head begins so, as dicts."""
        rows = self.sections[title]["rows"]
        starts = [i for i, row in enumerate(rows) if row[: len(head)] == head]
        assert len(starts) == 1, rows[:3]
        names = rows[starts[0]]
        found = []
        for row in rows[starts[0] + 1 :]:
            if len(row) != len(names) or row[0] == "period":
                break
            found.append(dict(zip(names, row, strict=True)))
        return found


def make(place, tables, **days: date):
    publish(place, tables)
    return make_page(Address(*place), **days)


@pytest.fixture
def sqlite(new_place):
    return new_place("sqlite")


def figure(words):
    """The first number of a cell."""
    return float(words.split(" ")[0].replace(",", ""))


def assert_corrected(row, of):
    """The cells of a row of corrected_counts or type_counts."""
    if of["corrected_count"] is None:
        assert row["corrected [90%]"] == str(of["mention_count"])
    else:
        ends = re.fullmatch(r"\S+ \[(\S+), (\S+)\]", row["corrected [90%]"])
        assert near(row["corrected [90%]"], of["corrected_count"])
        assert near(ends[1], of["corrected_lower"])
        assert near(ends[2], of["corrected_upper"])
    names = {"counted": "mention_count", "reviews": "review_count", "texts": "unique_text_count",
             "clusters": "cluster_count"}  # fmt: skip
    assert {name: row[name] for name in names} == {name: str(of[column]) for name, column in names.items()}
    assert near(row["sum of probabilities"], of["probability_mass"])


def near(words, value, digits=1):
    return words == "" if value is None else figure(words) == pytest.approx(value, abs=0.5 * 10**-digits + 1e-9)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@given(tables=nights())
@A_FEW_NIGHTS
def test_its_figures_are_those_of_the_views(new_place, database, tables):
    """A random night ends on 2024-03-09, so that of its weeks that of 02-26, and of its months March is told of."""
    place = new_place(database)
    page = Parsed(make(place, tables))
    view = {name: run_query(*place, name) for name in ("corrected_counts", "movements", "co_mentions")}
    month = pl.col("period").eq("month") & pl.col("period_start").eq(date(2024, 3, 1))
    week = pl.col("period").eq("week") & pl.col("period_start").eq(date(2024, 2, 26))
    for entity_type, plural in TYPES.items():
        told = view["corrected_counts"].filter(month, entity_type=entity_type)
        rows = page.table(f"Top {plural}", ["name", "corrected [90%]"])
        assert {row["name"] for row in rows} == set(told["canonical"])
        corrected = [figure(row["corrected [90%]"]) for row in rows]
        assert corrected == sorted(corrected, reverse=True)
        for row in rows:
            assert_corrected(row, told.filter(canonical=row["name"]).row(0, named=True))
    told = view["corrected_counts"].filter(month, ~pl.col("entity_type").is_in(list(TYPES)))
    rows = page.table("Other types", ["name", "type"])
    assert {(row["name"], row["type"]) for row in rows} == set(told.select("canonical", "entity_type").rows())
    for row in rows:
        assert_corrected(row, told.filter(canonical=row["name"], entity_type=row["type"]).row(0, named=True))
    told = view["movements"].filter(month | week, pl.col("entity_type").is_in(list(TYPES)))
    rows = page.table("Rising and falling", ["name", "type", "period"])
    key = ("canonical", "entity_type", "period", "movement")
    assert sorted(tuple(row[name] for name in ("name", "type", "period", "movement")) for row in rows) == sorted(
        told.select(key).rows()
    )
    for row in rows:
        of = told.filter(canonical=row["name"], entity_type=row["type"], period=row["period"]).row(0, named=True)
        assert (row["before"], row["now"]) == (str(of["previous_cluster_count"]), str(of["cluster_count"]))
        assert near(row["times"], of["ratio"], 2)
        assert near(row["q"], of["q_value"], 3)
        if of["ratio_upper"] is not None:
            assert [float(end) for end in row["90% interval"].split(" to ")] == pytest.approx(
                [of["ratio_lower"], of["ratio_upper"]], abs=0.0051
            )
    told = view["co_mentions"].filter(month)
    rows = page.table("Written about together", ["brand", "with"])
    assert len(rows) == len(told)
    for row in rows:
        of = told.filter(brand=row["brand"], other=row["with"], other_type=row["type"]).row(0, named=True)
        assert (row["clusters"], row["reviews"]) == (str(of["cluster_count"]), str(of["review_count"]))
        assert near(row["lift [90%]"], of["lift"])
    assert_totals_voices_and_copies(page, place)


def assert_totals_voices_and_copies(page, place):
    march = date(2024, 3, 1)
    totals = run_query(*place, "type_counts").filter(period="month", period_start=march)
    rows = page.table("In short", ["type", "corrected [90%]"])
    assert {row["type"] for row in rows} == set(totals["entity_type"]) > set(TYPES)
    tiles = " ".join(page.sections["In short"]["told"])
    for row in rows:
        of = totals.filter(entity_type=row["type"]).row(0, named=True)
        assert_corrected(row, of)
        if row["type"] in TYPES and of["corrected_count"] is not None:
            lower, upper = (f"{of[f'corrected_{end}']:,.0f}" for end in ("lower", "upper"))
            assert f"{of['corrected_count']:,.0f} corrected [{lower}, {upper}]; {of['mention_count']} counted" in tiles
    voices = run_query(*place, "share_of_voice").filter(month_start=march)
    whole = pl.col("cluster_count").sum().over("category")
    order = [whole, "category", "cluster_count", "brand"]
    told = voices.sort(order, descending=[True, False, True, False]).group_by("category", maintain_order=True).head(5)
    expected = [(row["category"], row["brand"], f"{row['share_of_voice']:.1%}") for row in told.to_dicts()]
    rows = page.table("Share of voice", ["category", "brand"])
    assert [(row["category"], row["brand"], row["share"]) for row in rows] == expected
    copies = run_query(*place, "duplicate_clusters").sort(
        ["review_count", "text_count", "cluster_id"], descending=[True, True, False]
    )
    expected = copies.head(20).select("cluster_id", "review_count", "text_count", "product_count", "last_date")
    rows = page.table("What was read", ["cluster", "reviews"])
    names = ("cluster", "reviews", "texts", "products", "last day")
    assert [tuple(row[name] for name in names) for row in rows] == [tuple(map(str, row)) for row in expected.rows()]


def test_what_is_new_is_what_the_view_says(sqlite):
    """Of the first days, in which everything is."""
    page = Parsed(make(sqlite, night(5), last=FIRST + timedelta(days=3)))
    told = run_query(*sqlite, "new_entities").filter(
        pl.col("first_date") <= FIRST + timedelta(days=3), pl.col("entity_type").is_in(list(TYPES))
    )
    rows = page.table("New", ["name", "type", "first day"])
    order = [(row["type"], -figure(row["clusters"]), -figure(row["reviews"]), row["name"].encode()) for row in rows]
    assert order == sorted(order)
    shown = {(row["name"], row["type"]): tuple(row.values())[2:] for row in rows}
    columns = ("first_date", "cluster_count", "review_count", "first_context", "first_review_id")
    assert shown == {
        (row["canonical"], row["entity_type"]): tuple("" if row[name] is None else str(row[name]) for name in columns)
        for row in told.to_dicts()
    }
    assert len(shown) > 4


def test_what_was_read_and_what_ran(sqlite):
    tables = night(3)
    page = Parsed(make(sqlite, tables, first=date(2024, 2, 1), last=date(2024, 2, 25)))
    coverage = run_query(*sqlite, "coverage_daily").filter(
        pl.col("day").is_between(date(2024, 2, 1), date(2024, 2, 25))
    )
    rows = page.table("What was read", ["day", "reviews"])
    assert [row["day"] for row in rows] == [str(day) for day in coverage["day"].sort(descending=True)]
    for row in rows:
        of = coverage.filter(pl.col("day").cast(pl.String) == row["day"]).row(0, named=True)
        counts = ("review_count", "unique_text_count", "cluster_count", "mention_count")
        assert [row[name] for name in ("reviews", "texts", "clusters", "mentions")] == [str(of[n]) for n in counts]
        assert row["with a mention"] == f"{of['mentioning_share']:.0%}"
    rejected = run_query(*sqlite, "rejections")
    assert (
        sum(figure(row["rows"]) for row in page.table("Rejected", ["run of (UTC)"])) == rejected["review_count"].sum()
    )
    runs = page.table("Runs", ["started (UTC)"])
    assert [row["status"] for row in runs] == ["running"] * 3 + ["succeeded"]
    assert runs[-1]["seconds"] == "3,355"
    quality = run_query(*sqlite, "model_quality").filter(metric="strict_f1")  # of two champions here
    told = [(row["labelled set"], row["type"], row["F1"]) for row in page.table("The model", ["labelled set"])]
    rows = quality.select("dataset", "entity_type", "value").rows()
    assert sorted(told) == sorted((name, kind, f"{value:.3f}") for name, kind, value in rows)


def test_each_figure_says_its_period_and_its_view(sqlite):
    page = Parsed(make(sqlite, night(1)))
    for title, section in page.sections.items():
        notes = [told for told in section["told"] if re.search(r"[Vv]iews? [a-z]+", told)]
        assert notes, title
    for plural in TYPES.values():
        assert any("Month 2024-03-01 to 2024-03-31, read to" in told for told in page.sections[f"Top {plural}"]["told"])


def test_days_asked_for(sqlite):
    page = make(sqlite, night(1), first=date(2024, 2, 1), last=date(2024, 2, 18))
    assert "What customers write about, 2024-02-01 to 2024-02-11" in page  # the week after is silent
    assert "2024-02-26" not in page
    assert "2024-03" not in page.split("<h2>Rejected")[0]


def test_one_day(sqlite):
    tables = night(2)
    day = tables["review_coverage"]["review_date"].max()
    of_day = tables | {
        name: tables[name].filter(pl.col("review_date") == day) for name in ("review_coverage", "mentions")
    }
    page = Parsed(make(sqlite, of_day))
    assert (
        "Nothing to compare: of the week and the month before, no review was read (view movements)."
        in page.sections["Rising and falling"]["told"]
    )
    assert len(page.table("What was read", ["day"])) == 1


def test_nothing_was_read(sqlite):
    Warehouse(*sqlite).migrate()
    page = make_page(Address(*sqlite))
    assert "No review was read." in page
    assert "No run yet (view run_history)." in page
    none = make(sqlite, night(1), first=date(2030, 1, 1))
    assert "No review was read from 2030-01-01 to the last one." in none
    assert "succeeded" in none  # runs are told of all the same


@pytest.fixture
def nasty(sqlite):
    """A page of a warehouse in which everything that can be text of others is hostile."""
    tables = night(4)
    hostile = pl.lit(NASTY)
    tables["mentions"] = tables["mentions"].with_columns(
        canonical=pl.when(
            pl.col("canonical").is_in(["华为", "手机", "p40"]), pl.col("review_date") >= date(2024, 2, 26)
        )
        .then(hostile)
        .otherwise("canonical"),
        surface=hostile,
    )
    tables["text_spans"] = tables["text_spans"].with_columns(left_context=hostile, surface=hostile)
    tables["extraction_runs"] = tables["extraction_runs"].with_columns(source=hostile, error=hostile)
    tables["rejected_reviews"] = tables["rejected_reviews"].with_columns(reason=hostile)
    return make(sqlite, tables)


def test_words_of_others_do_no_harm(nasty):
    page = Parsed(nasty)
    assert page.tags <= TAGS
    assert nasty.count("<script") == nasty.count("</script") == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name in {"href", "style"}]
    assert all(value.startswith("data:image/svg+xml;base64,") for tag, name, value in page.attributes if name == "src")
    assert not re.search("[\u202e\x07]", nasty)
    assert SHOWN in {row["name"] for row in page.table("Top brands", ["name"])}
    assert any(SHOWN in row["first mention"] for row in page.table("New", ["name"]))


def test_pictures_are_drawings_alone(nasty):
    pictures = [base64.b64decode(data).decode() for data in re.findall(r"base64,([^\"]+)\"", nasty)]
    assert len(pictures) >= 9
    tags = {"svg", "g", "path", "rect", "line", "text", "circle", "clipPath", "defs", "title", "style"}
    for picture in pictures:
        elements = list(ET.fromstring(picture).iter())  # noqa: S314 - our own
        assert {element.tag.split("}")[1] for element in elements} <= tags
        assert not [name for element in elements for name in element.attrib if name.startswith("on") or "href" in name]


def test_it_lets_nothing_load_and_only_its_script_run(nasty):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', nasty)[1]
    assert policy.startswith("default-src 'none'; img-src data:; script-src &#x27;sha256-".replace("&#x27;", "'"))
    assert not re.search(r"https?://(?!www\.w3\.org)", nasty)


def test_it_stays_small(sqlite):
    """A thousand names of a type, each as long as a review, and ninety days."""
    tables = night(5)
    rows = tables["mentions"].height
    long = pl.Series([f"{number % 1000}" + "名" * 60 for number in range(rows)])
    tables["mentions"] = tables["mentions"].with_columns(canonical=long)
    assert len(make(sqlite, tables).encode()) < 3_000_000


def test_the_last_whole_week_is_told_of(sqlite):
    tables = night(1)
    first = tables["review_coverage"]["review_date"].min()
    page = make(sqlite, tables, last=first + timedelta(days=8))
    assert f"week of {first - timedelta(days=first.weekday())}" in page


@pytest.fixture
def there(sqlite, tmp_path, monkeypatch):
    """A warehouse by settings, and a folder to work in."""
    make(sqlite, night(1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECNER_WAREHOUSE__URL", sqlite[0])
    return sqlite


def test_the_command_writes_the_page(there, tmp_path):
    result = invoke("report", "--from", "2024-02-01", "--to", "2024-02-18", "--out", "of days.html")
    assert result.exit_code == 0, result.stderr
    page = make_page(Address(*there), date(2024, 2, 1), date(2024, 2, 18))
    assert Parsed((tmp_path / "of days.html").read_text("utf-8")).sections == Parsed(page).sections
    assert result.stdout.startswith("of days.html: ")
    assert invoke("report").exit_code == 0
    assert {file.name for file in tmp_path.glob("*.html")} == {"of days.html", "report.html"}


@pytest.mark.parametrize(
    ("arguments", "url", "status", "message"),
    [
        (["--from", "2024-02-02", "--to", "2024-02-01"], None, 2, "--from 2024-02-02 is after --to 2024-02-01"),
        (["--out", "nowhere/report.html"], None, 2, "cannot write nowhere/report.html"),
        ([], "sqlite:///nowhere.db", 2, "there is no warehouse nowhere.db"),
        ([], "sqlite:///damaged.db", 1, "not a database"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(there, tmp_path, monkeypatch, arguments, url, status, message):
    (tmp_path / "damaged.db").write_bytes(b"damaged" * 1000)
    if url:
        monkeypatch.setenv("ECNER_WAREHOUSE__URL", url)
    result = invoke("report", *arguments)
    assert result.exit_code == status
    assert message in complaint(result)
    assert not list(tmp_path.glob("*.html"))


def test_the_nightly_page_lies_in_the_lake(there, tmp_path):
    settings = Settings.model_validate({"warehouse": {"url": there[0]}, "lake": {"uri": str(tmp_path / "lake")}})
    place = write_page(settings, lambda: None)
    assert place == f"{tmp_path}/lake/reports/tables.html"
    assert Parsed(Path(place).read_text("utf-8")).sections == Parsed(make_page(Address(*there))).sections
    remove_page(settings)
    assert not Path(place).exists()


def test_a_page_that_lost_its_lease_is_not_written(there, tmp_path):
    settings = Settings.model_validate({"warehouse": {"url": there[0]}, "lake": {"uri": str(tmp_path / "lake")}})

    def lost():
        raise LeaseError("lost")

    with pytest.raises(LeaseError):
        write_page(settings, lost)
    assert not list((tmp_path / "lake").rglob("*.html"))


def test_a_warehouse_of_an_earlier_version_is_told_from_a_wrong_query(there):
    with sqlite3.connect(there[0].removeprefix("sqlite:///")) as connection:
        connection.execute("drop view type_counts")
    result = invoke("report")
    assert result.exit_code == 2
    assert "earlier version had made it: ecner extract brings it up to date" in complaint(result)
