"""Time Viterbi decoding against pytorch-crf: ``python -m tests.bench.viterbi``; exits 1 below the floor.

Both decode the same 256 texts of 128 characters and 9 tags to Python lists, in turns so that whatever else
the machine does falls on both alike.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
import torchcrf

from ecner.model.crf import CRF

BATCH, STEPS, TAGS = 256, 128, 9
REPETITIONS = 7
FLOOR = 5.0  # times faster

Decode = Callable[[], list[list[int]]]


def decoders() -> tuple[Decode, Decode]:
    """Our decoder and pytorch-crf's, of the same parameters and emissions."""
    torch.manual_seed(0)
    free = [True] * TAGS
    ours = CRF(legal_start=free, legal_end=free, legal_transitions=[free] * TAGS)
    theirs = torchcrf.CRF(TAGS, batch_first=True)
    theirs.start_transitions.data, theirs.end_transitions.data = ours.start.data, ours.end.data
    theirs.transitions.data = ours.transitions.data
    emissions = torch.randn(BATCH, STEPS, TAGS)
    mask = torch.ones(BATCH, STEPS, dtype=torch.bool)

    def our_paths() -> list[list[int]]:
        tags: list[list[int]] = ours.viterbi(emissions, mask)[0].tolist()
        return tags

    return our_paths, lambda: theirs.decode(emissions, mask)


def seconds(decode: Decode) -> float:
    """Wall-clock time of one run."""
    begin = time.perf_counter()
    decode()
    return time.perf_counter() - begin


def main() -> int:
    """Check that both find the same paths, time them in turns, and print the medians and their ratio."""
    torch.set_num_threads(1)
    ours, theirs = decoders()
    if ours() != theirs():
        print("the decoders disagree")
        return 1
    times = [(seconds(ours), seconds(theirs)) for _ in range(REPETITIONS)]
    our_time, their_time = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = their_time / our_time
    print(f"ecner        {1e3 * our_time:8.2f} ms")
    print(f"pytorch-crf  {1e3 * their_time:8.2f} ms")
    print(f"ratio        {ratio:8.1f} (floor {FLOOR:g})")
    return 0 if ratio >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
