"""The report that people read: one HTML file on the reviews of some days, each of its figures out of a view."""

from collections.abc import Callable
from datetime import date

from ecner.config import Address, Settings
from ecner.lake import Lake
from ecner.nightly.copies import copies_folder
from ecner.nightly.entity_sections import entity_sections
from ecner.nightly.figures import read_figures
from ecner.nightly.review_sections import in_short, what_was_read
from ecner.nightly.run_sections import run_sections
from ecner.pages import Section, to_html

_TITLE = "What customers write about"


def make_page(address: Address, first: date | None = None, last: date | None = None) -> str:
    """The page on the reviews from ``first`` to ``last``, both inclusive; if not given, of the last eight weeks.

    Raises:
        UsageError: there is no such warehouse, or it is older than its views.
        RunError: it cannot be reached, or is damaged.
    """
    figures = read_figures(address, first, last)
    if (scope := figures.scope) is None:
        days = f" from {first or 'the first day'} to {last or 'the last one'}" if first or last else ""
        return to_html(_TITLE, [Section("No reviews", [f"No review was read{days}."]), *run_sections(figures)])
    of_reviews = [in_short(figures, scope), *entity_sections(figures, scope), what_was_read(figures, scope)]
    return to_html(f"{_TITLE}, {scope.first} to {scope.last}", [*of_reviews, *run_sections(figures)])


def write_page(settings: Settings, check: Callable[[], None]) -> str:
    """Puts the page of the last weeks into the lake, over the one that was there; returns where it is.

    Args:
        settings: of the run.
        check: raises where the lease was lost, so that what was forgotten since does not come back.
    """
    lake = Lake.open(settings.lake)
    page = make_page(settings.warehouse_at).encode()
    check()
    return lake.place(lake.write_bytes(_name(settings), page))


def remove_page(settings: Settings) -> None:
    """Takes the page out of the lake, until the next night: it has words of reviews in it."""
    Lake.open(settings.lake).remove(_name(settings))


def _name(settings: Settings) -> str:
    return f"reports/{copies_folder(settings)}.html"
