"""The CRF against sums over all paths, against pytorch-crf, and where legality leaves little or nothing."""

import copy
import itertools
import math
from typing import NamedTuple

import pytest
import torch
import torchcrf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ecner.model.crf import CRF

BIO, BILOU = "OBI", "OBILU"  # a letter a tag, its index the tag

Path = tuple[int, ...]


def scheme_crf(scheme: str) -> CRF:
    """A CRF of the scheme's legal moves; in BILOU an open span must be closed."""
    must_go_on = set("BI") if "L" in scheme else set()
    may_go_on, goes_on = set("BI"), set("IL")

    def legal(before: str, after: str) -> bool:
        return (before in may_go_on) if after in goes_on else before not in must_go_on

    return CRF(
        legal_start=[tag not in goes_on for tag in scheme],
        legal_end=[tag not in must_go_on for tag in scheme],
        legal_transitions=[[legal(before, after) for after in scheme] for before in scheme],
    ).double()


def free_crf(num_tags: int) -> CRF:
    """A CRF in which every path is legal."""
    free = [True] * num_tags
    return CRF(legal_start=free, legal_end=free, legal_transitions=[free] * num_tags).double()


class Case(NamedTuple):
    """A CRF and a ragged batch for it."""

    crf: CRF
    emissions: Tensor  # (B, T, K) float64
    mask: Tensor  # (B, T)


def draw_scores(crf: CRF, lengths: list[int], steps: int, seed: int) -> Case:
    """Parameters and emissions on a scale at which several paths matter; NaN at padding, to be ignored."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in crf.parameters():
        parameter.data.normal_(generator=generator)
    mask = torch.arange(steps) < torch.tensor(lengths).unsqueeze(1)
    emissions = 2 * torch.randn(len(lengths), steps, crf.num_tags, generator=generator, dtype=torch.float64)
    return Case(crf, emissions.masked_fill(~mask.unsqueeze(2), torch.nan), mask)


@st.composite
def cases(draw: st.DrawFn, schemes: tuple[str, ...] = ("", BIO)) -> Case:
    """Random legality (scheme ""), down to none, or a scheme's; T 0-5; ragged lengths from 0."""
    size = draw(st.integers(2, 4))
    row = st.lists(st.sampled_from([True, True, False]), min_size=size, max_size=size)
    table = st.lists(row, min_size=size, max_size=size)
    anything = st.builds(CRF, legal_start=row, legal_end=row, legal_transitions=table).map(CRF.double)
    scheme = draw(st.sampled_from(schemes))
    crf = scheme_crf(scheme) if scheme else draw(anything)
    steps = draw(st.integers(0, 5))
    lengths = draw(st.lists(st.integers(0, steps), min_size=1, max_size=3))
    return draw_scores(crf, lengths, steps, draw(st.integers(0, 2**31)))


def path_score(crf: CRF, emissions: Tensor, path: Path) -> Tensor:
    """The definition: the sum of what the path passes. Emissions ``(T, K)``."""
    if not path:
        return torch.zeros((), dtype=torch.float64)
    score = crf.start[path[0]] + crf.end[path[-1]]
    for t, tag in enumerate(path):
        score = score + emissions[t, tag]
    for before, after in itertools.pairwise(path):
        score = score + crf.transitions[before, after]
    return score


def legal_paths(crf: CRF, length: int) -> list[Path]:
    """All legal paths by trying every one."""
    *moves, start, end = crf._legal

    def legal(path: Path) -> bool:
        inner = all(moves[before][after] for before, after in itertools.pairwise(path))
        return inner and (not path or (start[path[0]] and end[path[-1]]))

    return [path for path in itertools.product(range(crf.num_tags), repeat=length) if legal(path)]


def scored_paths(case: Case, row: int) -> dict[Path, Tensor]:
    """Every legal path of a row and its score."""
    length = int(case.mask[row].sum())
    return {path: path_score(case.crf, case.emissions[row], path) for path in legal_paths(case.crf, length)}


def total(scores: dict[Path, Tensor]) -> Tensor:
    """Log sum of exponentials; -inf of nothing."""
    return torch.stack([*scores.values(), torch.tensor(-torch.inf, dtype=torch.float64)]).logsumexp(0)


def padded(path: Path, steps: int) -> list[int]:
    return [*path, *[0] * (steps - len(path))]


few = settings(max_examples=40, deadline=None)


@few
@given(cases())
def test_log_partition_sums_all_legal_paths(case: Case):
    expected = torch.stack([total(scored_paths(case, row)) for row in range(len(case.mask))])
    torch.testing.assert_close(case.crf.log_partition(case.emissions, case.mask), expected)


@few
@given(cases(), st.data())
def test_log_likelihood_of_any_path(case: Case, data: st.DataObject):
    tag = st.integers(0, case.crf.num_tags - 1)
    tags = torch.full(case.mask.shape, -100)
    expected = []
    for row, length in enumerate(case.mask.sum(1)):
        scores = scored_paths(case, row)
        path = data.draw(st.sampled_from(list(scores)) if scores else st.tuples(*[tag] * int(length)))
        path = data.draw(st.sampled_from([path, tuple(reversed(path))]))
        tags[row, :length] = torch.tensor(path, dtype=torch.long)
        expected.append(scores[path] - total(scores) if path in scores else torch.tensor(-math.inf).double())
    got = case.crf.log_likelihood(case.emissions, tags, case.mask)
    torch.testing.assert_close(got, torch.stack(expected))


@few
@given(cases())
def test_viterbi_finds_the_best_path(case: Case):
    tags, scores = case.crf.viterbi(case.emissions, case.mask)
    assert tags.shape == case.mask.shape
    for row in range(len(case.mask)):
        paths = scored_paths(case, row)
        best = max(paths, key=lambda path: paths[path].item(), default=())
        assert tags[row].tolist() == padded(best, case.mask.shape[1])
        assert scores[row].item() == pytest.approx(paths[best].item() if paths else -math.inf)


@few
@given(cases(), st.integers(1, 7))
def test_k_best_lists_the_best_paths_in_order(case: Case, k: int):
    tags, scores = case.crf.k_best(case.emissions, case.mask, k)
    batch, steps = case.mask.shape
    assert tags.shape == (batch, k, steps)
    assert scores.shape == (batch, k)
    for row in range(batch):
        paths = scored_paths(case, row)
        best = sorted(paths, key=lambda path: -paths[path].item())[:k]
        missing = k - len(best)
        assert tags[row].tolist() == [padded(path, steps) for path in [*best, *[()] * missing]]
        assert scores[row].tolist() == pytest.approx([paths[p].item() for p in best] + [-math.inf] * missing)


@few
@given(cases())
def test_marginals_sum_the_paths_through_each_tag(case: Case):
    expected = torch.zeros(*case.mask.shape, case.crf.num_tags, dtype=torch.float64)
    for row in range(len(case.mask)):
        scores = scored_paths(case, row)
        for path, score in scores.items():
            for t, tag in enumerate(path):
                expected[row, t, tag] += (score - total(scores)).exp().detach()
    got = case.crf.marginals(case.emissions, case.mask)
    torch.testing.assert_close(got, expected)
    assert (got[expected == 0] == 0).all()  # what is illegal has no mass at all


def holds_span(path: Path, start: int, end: int, tags: tuple[int, ...]) -> bool:
    """Whether the path holds exactly [start, end), by reading it."""
    first, inside, last = tags
    wanted = (last,) if end - start == 1 else (first, *[inside] * (end - start - 2), last)
    return path[start:end] == wanted and path[end : end + 1] != (inside,)


@st.composite
def span_tags(draw: st.DrawFn, crf: CRF) -> dict[bool, tuple[int, ...]]:
    """First, inside and last tag, of spans of one character (True) and of more: the scheme's, or any."""
    scheme, single, longer = {3: (BIO, "BIB", "BII"), 5: (BILOU, "UIU", "BIL")}.get(crf.num_tags, ("", "", ""))
    if scheme and draw(st.booleans()):
        return {True: tuple(map(scheme.index, single)), False: tuple(map(scheme.index, longer))}
    anything = st.tuples(*[st.integers(0, crf.num_tags - 1)] * 3)
    return {True: draw(anything), False: draw(anything)}


@settings(max_examples=80, deadline=None)
@given(cases(("", BIO, BILOU)), st.data())
def test_span_log_posteriors_sum_the_paths_that_hold_the_span(case: Case, data: st.DataObject):
    tags = data.draw(span_tags(case.crf))
    spans, expected = [], []
    for row, length in enumerate(case.mask.sum(1).tolist()):
        scores = scored_paths(case, row)
        for start, end in itertools.combinations(range(length + 1), 2):
            wanted = tags[end - start == 1]
            holding = {path: s for path, s in scores.items() if holds_span(path, start, end, wanted)}
            spans.append((row, start, end, *wanted))
            expected.append(total(holding) - (total(scores) if holding else 0))
    columns = torch.tensor(spans, dtype=torch.long).view(-1, 6).unbind(1)
    fields = dict(zip(("rows", "starts", "ends", "first", "inside", "last"), columns, strict=True))
    got = case.crf.span_log_posteriors(case.emissions, case.mask, **fields)
    torch.testing.assert_close(got, torch.stack(expected) if expected else got.new_zeros(0))


@few
@given(cases())
def test_gradients_are_those_of_the_sum_over_paths(case: Case):
    leaves = [case.emissions.nan_to_num().requires_grad_(), *case.crf.parameters()]
    case = case._replace(emissions=leaves[0])
    sums = [total(scored_paths(case, row)) for row in range(len(case.mask))]
    # A row without a legal path has no gradient; by brute force it is a sum of nothing.
    expected = sum((s for s in sums if s.isfinite()), start=leaves[0].sum() * 0)
    got = case.crf.log_partition(leaves[0], case.mask).sum()
    wanted, found = (torch.autograd.grad(s, leaves, materialize_grads=True) for s in (expected, got))
    torch.testing.assert_close(found, wanted)


@few
@given(st.integers(2, 5), st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 2**31))
def test_agrees_with_pytorch_crf_where_all_is_legal(num_tags: int, lengths: list[int], seed: int):
    crf, emissions, mask = draw_scores(free_crf(num_tags), lengths, max(lengths), seed)
    emissions = emissions.nan_to_num()
    oracle = torchcrf.CRF(num_tags, batch_first=True).double()
    oracle.start_transitions.data, oracle.end_transitions.data = crf.start.data, crf.end.data
    oracle.transitions.data = crf.transitions.data
    tags = emissions.argsort(2)[..., 0]
    torch.testing.assert_close(
        crf.log_likelihood(emissions, tags, mask), oracle(emissions, tags, mask, reduction="none")
    )
    rows = zip(crf.viterbi(emissions, mask)[0].tolist(), lengths, strict=True)
    assert [row[:length] for row, length in rows] == oracle.decode(emissions, mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scheme", [BIO, BILOU])
def test_illegal_moves_have_no_mass_even_where_emissions_insist(scheme: str, dtype: torch.dtype):
    crf, steps, illegal = scheme_crf(scheme).to(dtype), 200, scheme.index("I")  # no path may be all I
    emissions = torch.zeros(1, steps, len(scheme), dtype=dtype)
    emissions[..., illegal] = 1e4
    emissions.requires_grad_()
    mask = torch.ones(1, steps, dtype=torch.bool)
    gold = torch.zeros(1, steps, dtype=torch.long)
    both = torch.stack([gold[0], gold[0] + illegal])
    likelihood = crf.log_likelihood(emissions.expand(2, -1, -1), both, mask.expand(2, -1))
    assert likelihood.dtype == torch.float32
    assert likelihood[1] == -torch.inf
    likelihood.sum().backward()
    for leaf in (emissions, *crf.parameters()):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    assert crf.start.grad is not None
    assert crf.start.grad[illegal] == 0
    assert crf.marginals(emissions, mask)[0, 0, illegal] == 0
    tags, score = crf.viterbi(emissions, mask)
    assert tags[0, 0] != illegal
    assert score.isfinite().all()


def test_long_texts_keep_their_posteriors():
    crf = scheme_crf(BIO).float()
    emissions = 5 * torch.randn(1, 4000, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 4000, dtype=torch.bool)
    torch.testing.assert_close(crf.marginals(emissions, mask).sum(2), torch.ones(1, 4000).double())


@few
@given(cases(), st.floats(allow_nan=True))
def test_padding_is_never_read(case: Case, noise: float):
    def results(crf: CRF, emissions: Tensor, mask: Tensor) -> list[Tensor]:
        paths = [*crf.viterbi(emissions, mask), *crf.k_best(emissions, mask, 3)]
        return [*paths, crf.log_partition(emissions, mask), crf.marginals(emissions, mask)]

    other = case.emissions.masked_fill(~case.mask.unsqueeze(2), noise)
    wanted, found = results(*case), results(case.crf, other, case.mask)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_survives_construction_on_the_meta_device():
    with torch.device("meta"):
        crf = scheme_crf(BIO)
    crf = crf.to_empty(device="cpu")
    crf.reset_parameters()
    tags, _ = copy.deepcopy(crf).viterbi(torch.tensor([[[0.0, 0.0, 9.0]]]).double(), torch.tensor([[True]]))
    assert tags.item() != BIO.index("I")


def test_nothing_waits_for_a_value():
    """On the meta device there are no values: whatever would make a GPU wait for one raises there."""
    crf = scheme_crf(BIO).to("meta")
    emissions, mask = torch.zeros(2, 4, 3, device="meta"), torch.ones(2, 4, dtype=torch.bool, device="meta")
    fields = dict.fromkeys(("rows", "starts", "ends", "first", "inside", "last"), mask[0].long())
    assert crf.viterbi(emissions, mask)[0].shape == (2, 4)
    assert crf.k_best(emissions, mask, 5)[0].shape == (2, 5, 4)
    assert crf.log_likelihood(emissions, mask.long(), mask).shape == (2,)
    assert crf.marginals(emissions, mask).shape == (2, 4, 3)
    assert crf.span_log_posteriors(emissions, mask, **fields).shape == (4,)


def test_inference_mode_leaves_training_possible():
    crf = scheme_crf(BIO)
    emissions, mask = torch.zeros(1, 2, 3).double(), torch.ones(1, 2, dtype=torch.bool)
    with torch.inference_mode():
        crf.viterbi(emissions, mask)
    crf.log_partition(emissions, mask).sum().backward()
    assert crf.start.grad is not None


def test_malformed_input_is_refused():
    crf, emissions, mask = scheme_crf(BIO), torch.zeros(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
    span = dict.fromkeys(("rows", "first", "inside", "last", "starts"), torch.tensor([0]))
    refused = [
        lambda: CRF(legal_start=[], legal_end=[], legal_transitions=[]),
        lambda: CRF(legal_start=[True], legal_end=[True], legal_transitions=[[True, True]]),
        lambda: crf.viterbi(emissions[..., :2], mask),
        lambda: crf.viterbi(emissions.long(), mask),
        lambda: crf.viterbi(emissions, mask.long()),
        lambda: crf.viterbi(emissions, mask[:, :2]),
        lambda: crf.viterbi(emissions, torch.tensor([[True, False, True], [False, True, True]])),
        lambda: crf.k_best(emissions, mask, 0),
        lambda: crf.log_likelihood(emissions, mask.long() + 2, mask),
        lambda: crf.log_likelihood(emissions, mask.float(), mask),
        lambda: crf.span_log_posteriors(emissions, mask, **span, ends=torch.tensor([4])),
        lambda: crf.span_log_posteriors(emissions, mask, **span, ends=torch.tensor([0])),
        lambda: crf.span_log_posteriors(emissions, mask, **span, ends=torch.tensor([1, 2])),
    ]
    for call in refused:
        with pytest.raises(ValueError, match=r"must|need|out of range"):
            call()
