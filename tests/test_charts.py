import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecner import charts
from ecner.drawing import FONT

LOG = [
    {"loss": 2.0, "epoch": 0.5},
    {"eval_strict_f1": 0.5, "eval_a_strict_f1": 0.4, "eval_titles_dev_strict_f1": 0.6, "epoch": 1.0},
    {"loss": 1.0, "epoch": 1.5},
    {"train_loss": 1.2, "train_runtime": 3.0, "epoch": 2.0},
]
TWO = {"champion": 3, "challenger": 5}


def texts(svg):
    root = ET.fromstring(svg)  # noqa: S314 - our own
    return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(
    ("svg", "shown"),
    [
        (charts.reliability({"one": [(0.2, 0.1, 3), (0.9, 1.0, 4)], "two": []}), {"one", "two", "precision"}),
        (charts.f1_by_type({"all": {"m": (0.5, 0.4, 0.6)}, "品牌": {"m": (0.5, 0.4, 0.6)}}), {"品牌", "all", "m"}),
        (charts.entity_change([("华为", TWO), ("<b>&\"'", TWO)]), {"华为", "<b>&\"'", "champion", "challenger"}),
        (charts.learning_curve(LOG), {"training loss", "strict F1 on dev", "mean", "a", "titles_dev"}),
        (charts.learning_curve(LOG[:1]), {"training loss"}),
        (charts.learning_curve(LOG[1:2]), {"strict F1 on dev"}),
    ],
)
def test_pictures_are_svg_with_their_words(svg, shown):
    assert shown <= set(texts(svg))
    assert FONT.split(",")[1].strip(" '") in svg


def test_entities_stand_in_the_order_given_and_long_names_are_cut():
    names = ["乙", "甲", "丙" * 30]
    shown = texts(charts.entity_change([(name, TWO) for name in names]))
    assert [text for text in shown if text[0] in "甲乙丙"] == ["乙", "甲", "丙" * 20 + "…"]


@settings(max_examples=15)
@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=20))
def test_any_name_gives_a_well_formed_picture(name):
    assert name in texts(charts.entity_change([(name, TWO)]))
