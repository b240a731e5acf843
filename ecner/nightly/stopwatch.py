"""Where the time of a stage goes, step by step."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")


class Stopwatch:
    """Adds up seconds under names."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @property
    def seconds(self) -> Mapping[str, float]:
        """What was counted so far."""
        return dict(self._seconds)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Counts the time of the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - began

    def each(self, name: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """Counts the time that it takes to get the items, not what is done with them."""
        iterator = iter(items)
        while True:
            with self.on(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
