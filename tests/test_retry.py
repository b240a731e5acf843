import logging

import pytest

from ecner.errors import RunError, TransientError
from ecner.retry import patiently, retried


class Failing:
    """Fails some times, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_what_fails_in_passing_is_done_again(caplog):
    work = Failing(TransientError("lost"), TransientError("locked"))
    with caplog.at_level(logging.WARNING):
        assert retried(work, longest_seconds=0.01) == "done"
    assert work.calls == 3
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["lost", "locked"]


def test_the_last_failure_comes_out_as_it_is():
    work = Failing(*(TransientError(str(number)) for number in range(9)))
    with pytest.raises(TransientError, match=r"^2$"):
        retried(work, attempts=3, longest_seconds=0.01)
    assert work.calls == 3


@pytest.mark.parametrize("error", [RunError("for good"), ValueError("a slip")])
def test_any_other_error_comes_out_at_once(error):
    work = Failing(error)
    with pytest.raises(type(error)):
        retried(work)
    assert work.calls == 1


def test_a_decorated_function_is_done_again_with_its_arguments():
    work = Failing(TransientError("busy"))

    @patiently
    def store(name: str, *, to: str) -> str:
        """Puts it."""
        return f"{name} {to} {work()}"

    assert store("a", to="b") == "a b done"
    assert (work.calls, store.__name__) == (2, "store")
    never = Failing(RunError("never"))
    with pytest.raises(RunError, match="never"):
        patiently(never.__call__)()
    assert never.calls == 1
