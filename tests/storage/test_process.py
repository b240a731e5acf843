import json
import subprocess
import sys
import time

import psutil
import pytest

from ecner.storage.process import is_dead, shown, this_process


def changed(**values: object) -> str:
    return json.dumps({**json.loads(this_process()), **values})


def test_this_process_lives():
    assert not is_dead(this_process())
    assert shown(this_process()).startswith(f"process {psutil.Process().pid} on ")


def test_a_process_that_ended_is_dead_before_and_after_it_is_waited_for():
    code = "from ecner.storage.process import this_process; print(this_process(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        known = other.stdout.readline().decode()
        assert not is_dead(known)
        other.kill()
        while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert is_dead(known)
    assert is_dead(known)


def test_a_number_that_was_given_again_is_another_process():
    started = json.loads(this_process())["started"]
    assert is_dead(changed(started=started - 60))


@pytest.mark.parametrize("other", [{"machine": "another"}, {"numbered_by": "pid:[1]"}])
def test_of_a_process_elsewhere_nothing_is_known(other):
    assert not is_dead(changed(pid=2**22 - 1, **other))


@pytest.mark.parametrize("text", [None, "", "4711", "[]", "{}", "not json"])
def test_of_a_holder_that_left_no_trace_nothing_is_known(text):
    assert not is_dead(text)
    assert shown(text) == "process unknown on an unknown host"
