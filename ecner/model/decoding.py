"""Exact dynamic programmes over the tag paths of a batch: forward-backward, Viterbi and k-best paths.

Everything here is time first and batch last: a step of a recursion is then a handful of operations on
contiguous ``(K, K, B)`` blocks reduced over their first dimension, which is what vectorises best.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# The score of an illegal move. With -inf the gradient of logsumexp is NaN wherever all of its inputs are
# illegal. This value is finite, so sums, products and differences of it stay numbers, yet exp of its distance
# to any real score is exactly 0 in float32 and float64: a legal path never shares mass with an illegal one.
# Adding it up over millions of steps still fits in float32.
ILLEGAL = -1e30


class Lattice(NamedTuple):
    """The scores of every tag path of a batch; a path's score is the sum of what it passes.

    Attributes:
        emissions: ``(T, K, B)``, T >= 1, zero at padding.
        lengths: ``(B,)`` number of positions of each row, possibly 0.
        start: ``(K,)`` score of a first tag.
        end: ``(K,)`` score of a last tag.
        transitions: ``(K, K)`` score of a move, [from, to].
    """

    emissions: Tensor
    lengths: Tensor
    start: Tensor
    end: Tensor
    transitions: Tensor

    @property
    def last(self) -> Tensor:
        """Index of each row's last position, ``(B,)``; 0 for an empty row."""
        return (self.lengths - 1).clamp_min(0)

    def forward(self, reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Reduce the scores of all partial paths that end in each tag at each position.

        The recursion runs on into the padding, where its values are finite but mean nothing: picking each
        row's last position afterwards (`at_end`) costs one gather instead of one masking per step.

        Args:
            reduce: ``torch.logsumexp`` for the forward algorithm, ``torch.amax`` for Viterbi's.

        Returns:
            ``(T, K, B)`` log scores, the emission of the position included.

        Source: Rabiner (1989), "A Tutorial on Hidden Markov Models", sections III.A and III.B.
        """
        first, *rest = self.emissions.unbind(0)
        moves = self.transitions.unsqueeze(2)  # (K, K, 1)
        score = self.start.unsqueeze(1) + first  # (K, B)
        scores = [score]
        for emission in rest:
            score = reduce(score.unsqueeze(1) + moves, 0) + emission  # (K, K, B) -> (K, B)
            scores.append(score)
        return torch.stack(scores)  # (T, K, B)

    def at_end(self, scores: Tensor) -> Tensor:
        """Pick each row's last position: ``(T, S, B)`` -> ``(S, B)``."""
        index = self.last.expand(1, *scores.shape[1:])  # (1, S, B)
        return scores.gather(0, index).squeeze(0)

    def flip(self, scores: Tensor) -> Tensor:
        """Reverse each row's own positions in time, ``(T, K, B)``; its own inverse, but for the padding."""
        steps = torch.arange(len(scores), device=scores.device).unsqueeze(1)  # (T, 1)
        index = (self.last - steps).clamp_min(0)  # (T, B)
        return scores.gather(0, index.unsqueeze(1).expand_as(scores))

    def forward_backward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Forward and backward log scores, both ``(T, K, B)``, and the log partition ``(B,)`` of `log_total`.

        The backward recursion is the forward one over the lattice read from right to left; both therefore
        include the emission of their position.
        """
        emissions = torch.stack([self.emissions, self.flip(self.emissions)], 2)  # (T, K, 2, B), both ways at once
        moves = torch.stack([self.transitions, self.transitions.T], 2).unsqueeze(3)  # (K, K, 2, 1)
        first, *rest = emissions.unbind(0)
        scores = [torch.stack([self.start, self.end], 1).unsqueeze(2) + first]  # (K, 2, B)
        for emission in rest:
            scores.append(torch.logsumexp(scores[-1].unsqueeze(1) + moves, 0) + emission)
        forward, backward = torch.stack(scores).unbind(2)  # (T, K, B)
        return forward, self.flip(backward), self.log_total(forward)

    def log_total(self, forward: Tensor) -> Tensor:
        """Log partition ``(B,)`` from forward scores; 0 for empty rows, illegal where no path is legal."""
        total = torch.logsumexp(self.at_end(forward) + self.end.unsqueeze(1), 0)  # (B,)
        return total.masked_fill(self.lengths == 0, 0.0)

    def path_score(self, tags: Tensor, mask: Tensor) -> Tensor:
        """Score ``(B,)`` of one path a row; tags and mask ``(T, B)``. Terms are finite, so masks multiply."""
        emitted = self.emissions.gather(1, tags.unsqueeze(1)).squeeze(1)  # (T, B), 0 at padding
        moved = self.transitions[tags[:-1], tags[1:]] * mask[1:]  # (T - 1, B)
        final = tags.gather(0, self.last.unsqueeze(0)).squeeze(0)  # (B,)
        edges = (self.start[tags[0]] + self.end[final]) * mask[0]  # (B,), 0 for an empty row
        return emitted.sum(0) + moved.sum(0) + edges


def time_major(batch: Tensor) -> Tensor:
    """``(B, T, ...)`` -> ``(T, ..., B)``, contiguous; T = 0 becomes one padding step, for the recursions."""
    if batch.shape[1] == 0:
        batch = batch.new_zeros(batch.shape[0], 1, *batch.shape[2:])
    return batch.movedim(0, -1).contiguous()


def is_illegal(scores: Tensor) -> Tensor:
    """Tell the scores of illegal paths, and totals without any legal path, from real ones; any shape."""
    return scores < ILLEGAL / 2


def expose_illegal(scores: Tensor) -> Tensor:
    """Replace the scores that `is_illegal` tells by -inf, for callers; any shape."""
    return scores.masked_fill(is_illegal(scores), -torch.inf)


def viterbi_paths(lattice: Lattice) -> tuple[Tensor, Tensor]:
    """Find the best path of each row.

    The forward pass keeps scores alone. Back pointers are recomputed for the one tag that the backtrace is
    at: K comparisons a step where storing them would take K * K, by a slower reduction that tracks indices.

    Returns:
        Tags ``(B, 1, T)``, 0 at padding, and scores ``(B, 1)``: as `k_best_paths` with k = 1.

    Source: Viterbi (1967); Rabiner (1989), section III.B.
    """
    forward = lattice.forward(torch.amax)  # (T, K, B)
    scores, best = (lattice.at_end(forward) + lattice.end.unsqueeze(1)).max(0)  # (B,)
    steps = forward.unbind(0)

    def previous(t: int, tag: Tensor) -> Tensor:
        arrivals = steps[t - 1] + lattice.transitions.index_select(1, tag)  # (K, B)
        return arrivals.max(0).indices  # (B,); on CPU several times faster than argmax here

    tags = _backtrace(lattice, best, previous)  # (T, B)
    return _finish(lattice, tags.unsqueeze(1), scores.unsqueeze(0))


def k_best_paths(lattice: Lattice, k: int) -> tuple[Tensor, Tensor]:
    """Find the k best distinct paths of each row, exactly, by keeping the k best partial paths of each tag.

    A partial path is named by its slot, ``rank * K + tag``; slots that hold no path yet score as illegal.

    Returns:
        Tags ``(B, k, T)``, 0 at padding and where there is no path, and scores ``(B, k)``, descending,
        -inf where there is no path. An empty row has one path, the empty one, of score 0.

    Source: Seshadri & Sundberg (1994), "List Viterbi Decoding Algorithms with Applications", the parallel
    algorithm.
    """
    first, *rest = lattice.emissions.unbind(0)
    moves = lattice.transitions.repeat(k, 1).unsqueeze(2)  # (k * K, K, 1)
    beam = first.new_full((k, *first.shape), ILLEGAL)  # (k, K, B)
    beam[0] = lattice.start.unsqueeze(1) + first
    beams, pointers = [beam.flatten(0, 1)], []  # (k * K, B) a step; (k * K, B) a move
    for emission in rest:
        beam, slots = (beams[-1].unsqueeze(1) + moves).topk(k, dim=0)  # (k * K, K, B) -> (k, K, B)
        beams.append((beam + emission).flatten(0, 1))
        pointers.append(slots.flatten(0, 1))
    final = lattice.at_end(torch.stack(beams)) + lattice.end.repeat(k).unsqueeze(1)  # (k * K, B)
    scores, best = final.topk(k, dim=0)  # (k, B)
    slots = _backtrace(lattice, best, lambda t, slot: pointers[t - 1].gather(0, slot))  # (T, k, B)
    return _finish(lattice, slots % len(lattice.start), scores)


def _backtrace(lattice: Lattice, best: Tensor, previous: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Follow ``previous(t, state at t)`` back from the state ``best``, ``(..., B)``, at each row's end."""
    steps = len(lattice.emissions)
    # The states before a row's end is reached are those of its padding, and are masked by `_finish`.
    ends = (lattice.last == torch.arange(steps, device=best.device).unsqueeze(1)).unbind(0)  # T of (B,)
    path = [best]
    for t in range(steps - 1, 0, -1):
        path.append(torch.where(ends[t - 1], best, previous(t, path[-1])))
    return torch.stack(path[::-1])  # (T, ..., B)


def _finish(lattice: Lattice, tags: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Blank padding, illegal paths and empty rows; ``(T, k, B)``, ``(k, B)`` -> ``(B, k, T)``, ``(B, k)``."""
    ranks = torch.arange(len(scores), device=scores.device).unsqueeze(1)  # (k, 1)
    nothing = torch.where(ranks == 0, 0.0, -torch.inf).to(scores)  # (k, 1): an empty row has one, empty path
    scores = torch.where(lattice.lengths == 0, nothing, expose_illegal(scores))  # (k, B)
    steps = torch.arange(len(tags), device=tags.device).view(-1, 1, 1)  # (T, 1, 1)
    tags = tags.masked_fill((steps >= lattice.lengths) | scores.isinf(), 0)  # (T, k, B)
    return tags.permute(2, 1, 0).contiguous(), scores.T.contiguous()
