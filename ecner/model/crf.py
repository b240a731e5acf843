"""Linear-chain conditional random field over tag sequences (Lafferty, McCallum & Pereira 2001)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- its conventional name

from ecner.model.decoding import (
    ILLEGAL,
    Lattice,
    expose_illegal,
    is_illegal,
    k_best_paths,
    time_major,
    viterbi_paths,
)


class CRF(nn.Module):
    """Scores tag paths by emissions and learned moves; illegal moves have no mass, in training or decoding.

    All methods take ``emissions`` ``(B, T, K)``, finite, of any floating type (half types are computed in
    float32), and ``mask`` ``(B, T)`` bool, true on a prefix of each row. A row may be empty, and T may be 0:
    an empty text has one path, the empty one, of score 0. Scores and probabilities are natural logarithms.
    What stands at padding, in emissions or tags, is never looked at.

    All raise ValueError for malformed tensors. The checks that must read values (the mask is a prefix,
    indices are in range) run on CPU tensors only, since on a GPU each would stall the queue.
    """

    def __init__(
        self,
        *,
        legal_start: Sequence[bool],
        legal_end: Sequence[bool],
        legal_transitions: Sequence[Sequence[bool]],
    ) -> None:
        """Build a CRF over K tags.

        Args:
            legal_start: K flags, the tags a path may start with.
            legal_end: K flags, the tags a path may end with.
            legal_transitions: K rows of K flags, the moves [from][to] a path may make.

        Raises:
            ValueError: if there are no tags or the sizes disagree.
        """
        super().__init__()
        self.num_tags = len(legal_start)
        # Plain tuples, made a tensor when needed: `from_pretrained` builds modules on the meta device and
        # restores parameters only, so a non-persistent buffer would come back as uninitialised memory.
        self._legal = tuple(tuple(map(bool, row)) for row in (*legal_transitions, legal_start, legal_end))
        if not self.num_tags or [len(row) for row in self._legal] != [self.num_tags] * (self.num_tags + 2):
            raise ValueError(f"legality needs K >= 1 starts and ends and K x K moves, got {self._legal}")
        self.start = nn.Parameter(torch.empty(self.num_tags))  # (K,)
        self.end = nn.Parameter(torch.empty(self.num_tags))  # (K,)
        self.transitions = nn.Parameter(torch.empty(self.num_tags, self.num_tags))  # (K, K), [from, to]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all scores from U(-0.1, 0.1): small, so that the emissions lead at first."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def log_likelihood(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Log probability of the given paths, the training objective; its gradient is always finite.

        Args:
            emissions: ``(B, T, K)``.
            tags: ``(B, T)`` integers; anything at padding.
            mask: ``(B, T)``.

        Returns:
            ``(B,)``; -inf, with no gradient, for an illegal path.

        Source: Lafferty et al. (2001), equation 1.
        """
        lattice = self._lattice(emissions, mask)
        _require(tags.shape == mask.shape and not tags.is_floating_point(), "tags must be (B, T) integers")
        tags = time_major(tags.long().masked_fill(~mask, 0))  # (T, B)
        _require_range(tags, 0, self.num_tags, "tags")
        score = lattice.path_score(tags, time_major(mask))  # (B,)
        log_z = lattice.log_total(lattice.forward(torch.logsumexp))  # (B,)
        return (score - log_z).masked_fill(is_illegal(score), -torch.inf)

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log of the summed exponentiated scores of all legal paths, ``(B,)``; -inf where there are none."""
        lattice = self._lattice(emissions, mask)
        return expose_illegal(lattice.log_total(lattice.forward(torch.logsumexp)))

    @torch.no_grad()
    def viterbi(self, emissions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Find the best legal path of each row.

        Returns:
            Tags ``(B, T)`` long, 0 at padding, and scores ``(B,)``. A row without a legal path gets tags 0
            and score -inf.
        """
        tags, scores = viterbi_paths(self._lattice(emissions, mask))  # (B, 1, T), (B, 1)
        return tags[:, 0, : mask.shape[1]], scores[:, 0]

    @torch.no_grad()
    def k_best(self, emissions: Tensor, mask: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Find the k best distinct legal paths of each row, exactly.

        Returns:
            Tags ``(B, k, T)`` long, 0 at padding, and scores ``(B, k)``, descending. Where a row has fewer
            than k legal paths the rest are tags 0 and scores -inf.

        Raises:
            ValueError: if k < 1.

        Source: Seshadri & Sundberg (1994).
        """
        _require(k >= 1, "k must be at least 1")
        tags, scores = k_best_paths(self._lattice(emissions, mask), k)  # (B, k, T), (B, k)
        return tags[..., : mask.shape[1]], scores

    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Posterior probability of each tag at each position.

        Returns:
            ``(B, T, K)`` float64; 0 at padding and in rows without a legal path.

        Source: Rabiner (1989), equation 27.
        """
        lattice = self._lattice(emissions, mask, torch.float64)
        forward, backward, log_z = lattice.forward_backward()  # (T, K, B), (T, K, B), (B,)
        posterior = forward + backward - lattice.emissions - log_z  # both sides count the emission
        posterior = posterior.clamp_max(0.0).exp()  # rounding alone can exceed 1
        posterior = posterior.movedim(-1, 0)[:, : mask.shape[1]]  # (B, T, K)
        blank = ~mask | is_illegal(log_z).unsqueeze(1)  # (B, T)
        return posterior.masked_fill(blank.unsqueeze(2), 0.0)

    def span_log_posteriors(  # noqa: PLR0913 -- a span is six numbers
        self,
        emissions: Tensor,
        mask: Tensor,
        *,
        rows: Tensor,
        starts: Tensor,
        ends: Tensor,
        first: Tensor,
        inside: Tensor,
        last: Tensor,
    ) -> Tensor:
        """Log posterior probability that the path holds exactly the span [start, end), for N spans at once.

        The path must read first, inside, ..., inside, last over the span (just last over a single position)
        and must not go on with inside after it. Whether it could have begun earlier is left to the tags: a
        ``first`` that opens a span (B or U) already says that it does not.

        Args:
            emissions: ``(B, T, K)``.
            mask: ``(B, T)``.
            rows: ``(N,)`` long, the row of each span.
            starts: ``(N,)`` long, its first position.
            ends: ``(N,)`` long, one past its last position; starts < ends <= the row's length.
            first: ``(N,)`` long, the tag at its first position.
            inside: ``(N,)`` long, the tag at those between.
            last: ``(N,)`` long, the tag at its last position.

        Returns:
            ``(N,)`` float64, at most 0; -inf where the span has an illegal move.

        Source: Culotta & McCallum (2004), "Confidence Estimation for Information Extraction":
        constrained forward-backward, in closed form for a constraint that fixes a run of tags.
        """
        # In float64: a path's score grows with the text, and the posterior is a small difference of two.
        lattice = self._lattice(emissions, mask, torch.float64)
        spans = _Spans(rows, starts, ends, first, inside, last)
        _require_spans(spans, lattice)
        forward, backward, log_z = lattice.forward_backward()  # (T, K, B), (T, K, B), (B,)
        opening = torch.where(ends - starts == 1, last, first)  # (N,)
        joint = forward[starts, opening, rows] + _body_score(lattice, spans)  # (N,)
        joint = joint + _exit_score(lattice, spans, backward)
        posterior = expose_illegal((joint - log_z[rows]).clamp_max(0.0))  # rounding alone can exceed 0
        return posterior.masked_fill(is_illegal(log_z)[rows], -torch.inf)

    def _lattice(self, emissions: Tensor, mask: Tensor, dtype: torch.dtype = torch.float32) -> Lattice:
        """Validate, and lay the scores out time first in the widest of ``dtype`` and the given types."""
        _require_batch(emissions, mask, self.num_tags)
        for tensor in (emissions, self.transitions):
            dtype = torch.promote_types(dtype, tensor.dtype)
        clean = emissions.to(dtype).masked_fill(~mask.unsqueeze(2), 0.0)  # (B, T, K); padding may hold NaN
        legal = torch.tensor(self._legal, device=self.transitions.device)  # (K + 2, K)
        moves = torch.cat([self.transitions, self.start.unsqueeze(0), self.end.unsqueeze(0)]).to(dtype)
        moves = moves.masked_fill(~legal, ILLEGAL)
        return Lattice(time_major(clean), mask.sum(1), moves[-2], moves[-1], moves[:-2])


class _Spans(NamedTuple):
    """N spans and their tags, each field ``(N,)`` long; see `CRF.span_log_posteriors`."""

    rows: Tensor
    starts: Tensor
    ends: Tensor
    first: Tensor
    inside: Tensor
    last: Tensor


def _body_score(lattice: Lattice, spans: _Spans) -> Tensor:
    """Score ``(N,)`` of each span's path after its first position: 0 for a span of one."""
    rows, starts, ends, first, inside, last = spans
    moves, between = lattice.transitions, ends - starts - 2  # (N,) positions tagged inside
    run = moves[first, inside] + (between - 1) * moves[inside, inside] + moves[inside, last]
    moved = torch.where(between > 0, run, moves[first, last])
    total = F.pad(lattice.emissions.cumsum(0), (0, 0, 0, 0, 1, 0))  # (T + 1, K, B), before each position
    emitted = total[ends - 1, inside, rows] - total[starts + 1, inside, rows]  # over those inside
    body = moved + emitted + lattice.emissions[ends - 1, last, rows]
    return body.masked_fill(between < 0, 0.0)


def _exit_score(lattice: Lattice, spans: _Spans, backward: Tensor) -> Tensor:
    """Log sum ``(N,)`` of all ways to go on after each span other than by its inside tag."""
    rows, ends, last = spans.rows, spans.ends, spans.last
    following = ends.clamp_max(len(backward) - 1)  # at the end of the text, any index that exists
    onward = lattice.transitions[last] + backward[following, :, rows]  # (N, K)
    onward = onward.scatter(1, spans.inside.unsqueeze(1), ILLEGAL)
    return torch.where(ends == lattice.lengths[rows], lattice.end[last], onward.logsumexp(1))


def _require(condition: bool, message: str) -> None:
    """Raise ValueError unless the condition holds."""
    if not condition:
        raise ValueError(message)


def _require_range(index: Tensor, low: int, high: int | Tensor, name: str) -> None:
    """Require ``low <= index < high``, on CPU only: reading the answer from a GPU would stall its queue."""
    if index.device.type == "cpu":
        _require(bool(((index >= low) & (index < high)).all()), f"{name} out of range")


def _require_batch(emissions: Tensor, mask: Tensor, num_tags: int) -> None:
    """Require ``(B, T, K)`` floating emissions and a ``(B, T)`` bool mask of prefixes."""
    shaped = emissions.dim() == 3 and emissions.shape == (*mask.shape, num_tags)  # noqa: PLR2004 -- B, T, K
    _require(shaped, f"need (B, T, {num_tags}) and (B, T), got {tuple(emissions.shape)}, {tuple(mask.shape)}")
    _require(emissions.is_floating_point(), f"emissions must be floating point, got {emissions.dtype}")
    _require(mask.dtype == torch.bool, f"mask must be bool, got {mask.dtype}")
    if mask.device.type == "cpu":
        _require(not bool((mask[:, 1:] & ~mask[:, :-1]).any()), "mask must be true on a prefix of each row")


def _require_spans(spans: _Spans, lattice: Lattice) -> None:
    """Require N rows, boundaries and tags that exist, ``0 <= start < end <= length``."""
    shaped = all(field.shape == spans.rows.shape and field.dtype == torch.long for field in spans)
    _require(shaped and spans.rows.dim() == 1, "span fields must be long tensors of one shape (N,)")
    _require_range(spans.rows, 0, len(lattice.lengths), "rows")
    _require_range(spans.starts, 0, spans.ends, "starts")
    _require_range(spans.ends, 1, lattice.lengths[spans.rows] + 1, "ends")
    for name in ("first", "inside", "last"):
        _require_range(getattr(spans, name), 0, len(lattice.start), name)
