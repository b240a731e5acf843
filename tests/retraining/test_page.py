import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecner.config import GateSettings, ModelSettings
from ecner.inference.reader import Reader
from ecner.labels import TagSet
from ecner.nightly.names import Lexicon
from ecner.retraining import page
from ecner.retraining.compare import Contender, Material, compare
from ecner.retraining.entities import EntityChange, EntityRow
from ecner.retraining.gate import judge
from ecner.retraining.mistakes import Mistake
from ecner.retraining.page import Page
from ecner.retraining.sections import Surroundings
from tests.nightly.reviews import WORDS
from tests.retraining.test_compare import RECENT, SETS
from tests.tiny import tiny

NASTY = "<script>alert(1)</script>|\x1b[31m\u202e\n`*_&\"'"
VOID = {"meta", "img"}
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "figure", "img", "mark"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
CURVE = [{"loss": 2.0, "epoch": 0.5}, {"eval_strict_f1": 0.5, "eval_one_strict_f1": 0.5, "epoch": 1.0}]


class Checked(HTMLParser):
    """Balanced tags; what the page says, and what it refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.text, self.references, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for name, value in attrs if name in {"src", "href", "srcset", "style", "action"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    parser = Checked()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def page_of(comparison, decisions, **around: object):
    return Page.of(comparison, Surroundings(decisions, **around))


@pytest.fixture(scope="module")
def contenders():
    tag_set = TagSet.from_labels(WORDS)
    old, new = (Reader(tiny(tag_set=tag_set, seed=seed), device="cpu") for seed in range(2))
    return Contender("new-1", new, frozenset()), Contender("old-1", old, None)


@pytest.fixture(scope="module")
def material():
    return Material(SETS, RECENT, ModelSettings(), Lexicon({}))


@pytest.fixture(scope="module")
def comparison(contenders, material):
    return compare(*contenders, material)


@pytest.fixture(scope="module")
def given_(comparison):
    return {
        "decisions": judge(comparison, GateSettings()),
        "verdict": "new-1 stays a candidate",
        "data": "train 7 texts",
    }


def test_the_page_is_well_formed_and_needs_nothing_else(comparison, given_):
    found = parsed(page_of(comparison, **given_, notes=["The test texts are those of dev."], curve=CURVE).to_html())
    assert all(reference.startswith("data:image/svg+xml;base64,") for reference in found.references)
    assert len(found.references) == 3 + len(comparison.entities)
    assert not found.tags & {"script", "link", "iframe"}
    text = "\n".join(found.text)
    for words in (
        *("new-1 stays a candidate", "train 7 texts", "The test texts are those of dev.", "new-1", "old-1", "fresh"),
        *("gain_lower", "type_loss:brand", "spurious", "missed", "characters a second", "prefers-color-scheme: dark"),
        "The training texts of the champion are not known",
    ):
        assert words in text


def test_the_figures_are_those_of_the_comparison(comparison, given_):
    gain = comparison.f1["all"]["all"].difference
    strict = comparison.part("all", "fresh").scores["challenger"].strict.micro
    shown_page = page_of(comparison, **given_)
    for shown in (shown_page.to_html(), shown_page.to_markdown().replace("\\", "")):
        assert f"{gain.value:+.4f} [{gain.lower:+.4f}, {gain.upper:+.4f}]" in shown
        for value in (strict.precision, strict.recall, strict.f1):
            assert f"{value:.4f}" in shown


def with_words(comparison, words):
    mistake = Mistake(0, "type", words, words, words, words, words, words, words, 0.5, other_is_right=True)
    change = EntityChange((EntityRow(words, 3, 2, 1, 1), EntityRow("x", 1, 1, 2, 2)), 0.25)
    return replace(comparison, mistakes={"challenger": (mistake,)}, entities={words: change})


@settings(max_examples=10)
@given(words=st.text(min_size=1) | st.just(NASTY) | st.just("\ud800</mark><img src=http://x>"))
def test_customers_words_do_no_harm(words, comparison):
    around = {"decisions": (), "verdict": words, "data": words, "notes": [words]}
    nasty = with_words(comparison, words)
    with pytest.MonkeyPatch.context() as patch:
        for drawn in ("f1_by_type", "reliability"):  # have no such words
            patch.setattr(f"ecner.charts.{drawn}", lambda _: "<svg/>")
        html, markdown = page_of(nasty, **around).to_html(), page_of(nasty, **around).to_markdown()
    html.encode()
    found = parsed(html)
    assert found.tags <= TAGS
    assert all(reference.startswith("data:") for reference in found.references)
    markdown.encode()
    for shown in (html, markdown):
        assert all(c.isprintable() or c == "\n" for c in shown)
    assert not re.search(r"(?<!\\)<", markdown)
    for table in (block for block in markdown.split("\n\n") if block.startswith("| ")):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_a_challenger_alone(contenders, material):
    alone = compare(contenders[0], None, Material({"one": SETS["one"]}, RECENT, material.model, material.lexicon))
    html = page_of(alone, (), verdict="not comparable: its labels are others", data="").to_html()
    text = "\n".join(parsed(html).text)
    assert "not comparable: its labels are others" in text
    assert "the figures are of the challenger alone" in text
    assert "%" not in text.split("What analysts would see")[1].split("What this report")[0]  # nothing has moved
    assert "the fresh texts of one" not in text  # a lone data set is not told twice
    assert page_of(alone, (), verdict="x", data="").to_markdown().startswith("# Evaluation of new-1")


def test_markdown_holds_its_pictures_and_keeps_to_its_size(comparison, given_, monkeypatch):
    whole = page_of(comparison, **given_, curve=CURVE).to_markdown()
    pictures = re.findall(r"!\[[^\]]+\]\(data:image/svg\+xml;base64,([^)]+)\)", whole)
    assert len(pictures) == 3 + len(comparison.entities)
    assert all(base64.b64decode(picture).startswith(b"<svg") for picture in pictures)
    assert len(whole.encode()) <= page.MARKDOWN_BYTES
    for most in (40_000, 2_000):
        monkeypatch.setattr(page, "MARKDOWN_BYTES", most)
        less = page_of(comparison, **given_, curve=CURVE).to_markdown()
        assert len(less.encode()) <= most
        assert less.startswith(whole[:300])
    assert json.dumps(less)
