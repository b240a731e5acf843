"""Open the report of a warehouse in headless Chromium, as a telephone and a desk have it, light and dark, and on paper.

    python -m tests.bench.page FOLDER [--warehouse URL] [--mentions 20000] [--browser FILE]

Writes the report and a picture of each window into the folder. Without a warehouse it is of random mentions. A message
on the browser's console, a request, a table that does not sort and filter, a page wider than its window, one over 3 MB
or one that took over 20 s to make is a failure. Needs playwright, and a Chromium: its own, or one that is named.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from ecner.config import Address
from ecner.nightly.page import make_page
from ecner.storage.warehouse import Warehouse
from tests.bench.relink import fill

WIDTHS, SCHEMES = (390, 1280), ("light", "dark")
_MOST_BYTES, _MOST_SECONDS = 3_000_000, 20


def main() -> None:
    """Makes the page, opens it four times, and tells what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--warehouse", help="SQLAlchemy URL")
    parser.add_argument("--mentions", type=int, default=20_000)
    parser.add_argument("--browser", help="the program of a Chromium")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        url = options.warehouse or f"sqlite:///{folder}/warehouse.db"
        if options.warehouse is None:
            fill(Warehouse(url), options.mentions, days=60)
        problems = list(_made(url, options.folder / "report.html"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser)
        problems += _opened(browser, options.folder)
        browser.close()
    print("\n".join(problems) or "no console message, no request, no page wider than its window")
    sys.exit(bool(problems))


def _made(url: str, file: Path) -> Iterator[str]:
    began, used = time.perf_counter(), time.process_time()
    page = make_page(Address(url, None)).encode()
    seconds = time.perf_counter() - began
    print(f"{len(page):,} bytes in {seconds:.1f} s, {time.process_time() - used:.1f} s of a processor")
    file.write_bytes(page)
    if len(page) > _MOST_BYTES:
        yield f"{len(page):,} bytes: at most {_MOST_BYTES:,}"
    if seconds > _MOST_SECONDS:
        yield f"{seconds:.1f} s: at most {_MOST_SECONDS}"


def _opened(browser: Browser, folder: Path) -> Iterator[str]:
    for width in WIDTHS:
        for scheme in SCHEMES:
            window = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            for problem in _looked_at(window, folder, f"{width}-{scheme}"):
                yield f"{width} px, {scheme}: {problem}"
            window.close()


def _looked_at(window: Page, folder: Path, name: str) -> Iterator[str]:
    heard: list[str] = []
    window.on("console", lambda message: heard.append(f"console: {message.text}"))
    window.on("pageerror", lambda error: heard.append(f"error: {error}"))
    address = (folder / "report.html").absolute().as_uri()
    window.on("request", lambda request: heard.append(f"request: {request.url}") if request.url != address else None)
    window.goto(address)
    window.screenshot(path=folder / f"{name}.png", full_page=True)
    window.emulate_media(media="print")
    window.screenshot(path=folder / f"{name}-print.png", full_page=True)
    window.emulate_media(media="screen")
    wide = window.evaluate("document.documentElement.scrollWidth")
    if wide > window.viewport_size["width"]:
        yield f"the page is {wide} px wide"
    yield from _used(window)
    yield from heard


def _used(window: Page) -> Iterator[str]:
    """Sorts and filters the first long table."""
    table = window.locator("figure.long").first
    cells = table.locator("tbody tr:visible td:first-child")
    names = cells.all_text_contents()
    button = table.locator("th button").first
    for order, pressed in ((1, "ascending"), (-1, "descending")):
        button.click()
        found = cells.all_text_contents()
        ordered = window.evaluate("names => names.sort((a, b) => a.localeCompare(b, 'zh'))", names)
        if found != ordered[::order]:
            yield f"not sorted {pressed}: {found[:5]}"
    table.locator("input").fill(names[0])
    if any(names[0] not in row for row in table.locator("tbody tr:visible").all_text_contents()):
        yield f"not filtered by {names[0]}"


if __name__ == "__main__":
    main()
