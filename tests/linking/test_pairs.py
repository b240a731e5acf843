"""Rules and suggestions on the labelled list; python -m tests.bench.linking makes the evidence from labelled texts."""

from ecner.linking.score import LEAST_SCORE
from tests.linking.labelled import frozen_evidence, judge, of_the_list, read_pairs

PAIRS = list(read_pairs())


def test_the_list_is_long_enough_and_says_nothing_twice():
    kinds = [pair.is_one for pair in PAIRS]
    assert kinds.count(True) >= 200
    assert kinds.count(False) >= 200
    written = {(pair.entity_type, frozenset((pair.left, pair.right))) for pair in PAIRS}
    assert len(written) == len(PAIRS)
    told = {}
    for pair in PAIRS:
        if not pair.is_settled:
            assert told.setdefault((pair.entity_type, pair.names), pair.is_one) == pair.is_one, pair


def test_rules_link_nothing_that_is_two_and_much_that_is_one():
    settled = [pair for pair in PAIRS if pair.is_settled]
    assert [pair for pair in settled if not pair.is_one] == []
    assert len(settled) > 70


def test_suggestions_find_most_of_what_rules_leave_open_and_little_else():
    figures, wrong, _ = judge(frozen_evidence(), PAIRS, LEAST_SCORE)
    assert figures.precision >= 0.8, wrong
    assert figures.recall >= 0.6, figures


def test_a_lower_bar_finds_more_and_errs_more():
    strict, loose = (judge(frozen_evidence(), PAIRS, bar)[0] for bar in (0.8, 0.3))
    assert strict.recall < loose.recall
    assert strict.precision > loose.precision


def test_the_evidence_is_of_the_names_of_the_list():
    evidence = frozen_evidence()
    again = of_the_list(evidence)
    assert evidence.names.drop("example").equals(again.names.drop("example"))
    assert len(again.met) == len(evidence.met)
