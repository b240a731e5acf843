"""Weeks and months: the periods that days belong to."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import NamedTuple

DAY, WEEK, MONTH = "day", "week", "month"


class Period(NamedTuple):
    """A week, from Monday on, or a month."""

    kind: str
    start: date

    @classmethod
    def of(cls, day: date) -> "tuple[Period, Period]":
        """The week and the month of a day."""
        return cls(WEEK, day - timedelta(days=day.weekday())), cls(MONTH, day.replace(day=1))

    @property
    def last(self) -> date:
        """Its last day."""
        return self.next.start - timedelta(days=1)

    @property
    def next(self) -> "Period":
        """The period that follows."""
        days = 7 if self.kind == WEEK else 31
        after = self.start + timedelta(days=days)
        return Period(self.kind, after if self.kind == WEEK else after.replace(day=1))

    @property
    def previous(self) -> "Period":
        """The period before."""
        before = self.start - timedelta(days=7 if self.kind == WEEK else 1)
        return Period(self.kind, before if self.kind == WEEK else before.replace(day=1))


def periods_of(days: Iterable[date]) -> set[Period]:
    """The weeks and months of some days."""
    return {period for day in days for period in Period.of(day)}


def moved_by(days: Iterable[date]) -> set[Period]:
    """The weeks and months of some days, and those after them, which are compared with them."""
    return {moved for touched in periods_of(days) for moved in (touched, touched.next)}
