from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ecner.nightly.periods import MONTH, WEEK, Period, periods_of

DAYS = st.dates(date(1900, 1, 1), date(2200, 1, 1))


@given(DAYS)
def test_a_day_lies_in_its_week_and_its_month(day):
    week, month = Period.of(day)
    assert (week.kind, month.kind) == (WEEK, MONTH)
    assert week.start.weekday() == 0
    assert month.start.day == 1
    for period in (week, month):
        days = [period.start + timedelta(days=days) for days in range((period.last - period.start).days + 1)]
        assert day in days
        assert {other for each in days for other in Period.of(each) if other.kind == period.kind} == {period}


@given(DAYS)
def test_periods_follow_each_other_without_a_gap(day):
    for period in Period.of(day):
        assert period.next.previous == period == period.previous.next
        assert period.next.start == period.last + timedelta(days=1)


def test_periods_of_some_days():
    assert periods_of([]) == set()
    assert periods_of([date(2026, 11, 1), date(2026, 11, 2)]) == {
        Period(WEEK, date(2026, 10, 26)), Period(WEEK, date(2026, 11, 2)), Period(MONTH, date(2026, 11, 1)),
    }  # fmt: skip
