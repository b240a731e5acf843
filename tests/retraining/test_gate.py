"""Each rule of the gate, both ways: a challenger on the right side of its limit, and one on the wrong side."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ecner.config import GateSettings
from ecner.retraining.bootstrap import Estimate
from ecner.retraining.compare import F1, Comparison
from ecner.retraining.entities import EntityChange, EntityRow
from ecner.retraining.gate import decision_rows, judge, passes, reasons
from ecner.retraining.reading import ALL, CHALLENGER, CHAMPION, Speed
from ecner.schema import TABLES

GATE = GateSettings(
    min_gain=0.005, min_gain_lower=-0.01, max_type_loss=0.02, min_type_support=30, max_slowdown=1.5,
    max_entity_change=0.3, min_texts=50,
)  # fmt: skip


def f1(gain, lower, upper, support=200):
    return F1({}, Estimate(gain, lower, upper), support)


SOME = (EntityRow("a", 20, 10, 1, 1), EntityRow("b", 0, 10, None, 2))
FOUND = {ALL: f1(0.02, 0.001, 0.04, 900), "brand": f1(0.03, 0.0, 0.06), "product": f1(-0.01, -0.03, 0.01)}
GOOD = Comparison(
    versions={CHAMPION: "old", CHALLENGER: "new"},
    unknown_training=(),
    confidence=0.95,
    fresh_texts=60,
    types=("brand", "product"),
    parts=(),
    f1={ALL: FOUND},
    shown="fresh",
    calibration={},
    ece={},
    errors={},
    confusion={},
    mistakes={},
    speed=Speed(100, {CHAMPION: (1.0, 1.0, 9.0), CHALLENGER: (1.2, 1.4, 1.3)}),
    entities={"brand": EntityChange(SOME, 0.1), "product": EntityChange(SOME, 0.3)},
    recent_reviews=100,
)


def changed(**types: F1):
    return replace(GOOD, f1={ALL: FOUND | types})


def outcomes(comparison, gate=GATE):
    return {decision.rule: decision.outcome for decision in judge(comparison, gate)}


def test_a_challenger_within_all_limits_passes():
    assert outcomes(GOOD) == dict.fromkeys(
        ["fresh_texts", "gain", "gain_lower", "type_loss:brand", "type_loss:product", "slowdown",
         "entity_change:brand", "entity_change:product"],
        "passed",
    )  # fmt: skip
    assert passes(judge(GOOD, GATE))
    assert reasons(judge(GOOD, GATE)) == ""


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("fresh_texts", replace(GOOD, fresh_texts=50), replace(GOOD, fresh_texts=49)),
        ("gain", changed(all=f1(0.005, 0, 1)), changed(all=f1(0.0049, 0, 1))),
        ("gain_lower", changed(all=f1(0.02, -0.01, 1)), changed(all=f1(0.02, -0.0101, 1))),
        ("type_loss:brand", changed(brand=f1(-0.02, -1, 1)), changed(brand=f1(-0.0201, -1, 1))),
        (
            "slowdown",
            replace(GOOD, speed=Speed(1, {CHAMPION: (2.0,), CHALLENGER: (3.0,)})),
            replace(GOOD, speed=Speed(1, {CHAMPION: (2.0,), CHALLENGER: (3.1,)})),
        ),
        (
            "entity_change:brand",
            replace(GOOD, entities={"brand": EntityChange(SOME, 0.3)}),
            replace(GOOD, entities={"brand": EntityChange(SOME, 0.31)}),
        ),
    ],
)
def test_each_rule_both_ways(rule, good, bad):
    assert outcomes(good)[rule] == "passed"
    assert passes(judge(good, GATE))
    assert [name for name, outcome in outcomes(bad).items() if outcome == "failed"] == [rule]
    assert not passes(judge(bad, GATE))
    assert reasons(judge(bad, GATE)).startswith(f"{rule} is ")


def test_types_with_few_mentions_are_not_judged():
    rare = changed(brand=f1(-0.5, -1, 0, support=29))
    assert outcomes(rare)["type_loss:brand"] == "not judged"
    assert passes(judge(rare, GATE))
    assert outcomes(changed(brand=f1(-0.5, -1, 0, support=30)))["type_loss:brand"] == "failed"
    few = replace(GOOD, entities={"brand": EntityChange(SOME[:1], 1.0)})
    assert outcomes(few)["entity_change:brand"] == "not judged"


def test_without_texts_new_to_both_nothing_is_promoted():
    found = outcomes(replace(GOOD, fresh_texts=0, f1={}))
    assert found["fresh_texts"] == "failed"
    assert found["gain"] == found["gain_lower"] == "not judged"


def test_what_was_not_measured_is_not_judged():
    decisions = judge(replace(GOOD, speed=None, entities={"brand": EntityChange(SOME, None)}), GATE)
    assert {d.rule: d.outcome for d in decisions}["slowdown"] == "not judged"
    assert not [d for d in decisions if d.rule.startswith("entity_change")]


def test_decisions_are_rows_with_their_figures():
    rows = decision_rows(judge(GOOD, GATE), "new", "old", datetime.now(UTC))
    assert TABLES["gate_decisions"].validate(rows).equals(rows)
    (gain,) = rows.filter(rule="gain").to_dicts()
    assert (gain["value"], gain["lower"], gain["upper"], gain["allowed"]) == (0.02, 0.001, 0.04, 0.005)
    (loss,) = rows.filter(rule="type_loss:product").to_dicts()
    assert (loss["value"], loss["lower"], loss["upper"]) == (0.01, -0.01, 0.03)


@pytest.mark.parametrize("side", [CHAMPION, CHALLENGER])
def test_a_model_that_does_not_tell_its_training_texts_is_not_compared_by_them(side):
    decisions = judge(replace(GOOD, unknown_training=(side,)), GATE)
    assert [d.rule for d in decisions if d.outcome == "failed"] == ["fresh_texts"]
    assert f"as {GOOD.versions[side]} came without" in decisions[0].detail
