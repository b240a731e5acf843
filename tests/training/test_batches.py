import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecner.data.rows import LabelledText
from ecner.labels import Span, TagSet
from ecner.training.batches import Example, LengthBatches, TaggedTexts, collate
from tests.tiny import CHARACTERS, VOCABULARY

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(lambda n: np.array(n, dtype=np.int64))
SEEDS = st.integers(0, 2**31)


@st.composite
def labelled(draw, max_mention=8):
    """A text with mentions of at most ``max_mention`` characters."""
    text = draw(st.text(st.sampled_from(CHARACTERS), max_size=60))
    spans, start = [], 0
    while start < len(text):
        end = min(len(text), start + draw(st.integers(1, max_mention)))
        if label := draw(st.sampled_from(["", "HPPX", "XH"])):
            spans.append(Span(start, end, label))
        start = end
    return LabelledText(text, tuple(spans))


def batches(lengths, epoch, *, batch_chars=100, seed=0):
    sampler = LengthBatches(lengths, batch_chars=batch_chars, seed=seed)
    sampler.set_epoch(epoch)
    return sampler, list(sampler)


@given(LENGTHS, st.integers(1, 200), SEEDS, st.integers(0, 50))
def test_an_epoch_holds_each_example_once_within_the_budget(lengths, batch_chars, seed, epoch):
    sampler, found = batches(lengths, epoch, batch_chars=batch_chars, seed=seed)
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    assert len(found) == len(sampler) == len(batches(lengths, epoch + 1, batch_chars=batch_chars)[0])
    for batch in found:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= batch_chars
    assert found == batches(lengths, epoch, batch_chars=batch_chars, seed=seed)[1]


def test_batches_and_their_order_differ_between_epochs_and_seeds():
    lengths = np.array([5] * 30 + [9] * 30, dtype=np.int64)
    found = [batches(lengths, epoch, batch_chars=20, seed=seed)[1] for epoch, seed in [(0, 0), (1, 0), (0, 1)]]
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert found[one] != found[other]
        assert {frozenset(b) for b in found[one]} != {frozenset(b) for b in found[other]}


def test_batches_hold_neighbours_in_length():
    lengths = np.random.default_rng(0).integers(1, 60, 200)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches(lengths, 0, batch_chars=300)[1])
    assert padded < 1.1 * lengths.sum()


@pytest.mark.parametrize("scheme", ["BIO", "BILOU"])
@given(texts=st.lists(labelled(), max_size=4), window=st.integers(8, 40))
def test_pieces_put_together_are_the_texts_and_cut_no_mention(scheme, texts, window):
    tag_set = TagSet.from_labels(["HPPX", "XH"], scheme)
    examples = TaggedTexts(texts, vocabulary=VOCABULARY, tag_set=tag_set, window=window)
    assert len(examples) == len(examples.lengths)
    pieces = iter(range(len(examples)))
    for text in texts:
        spans, reached = [], 0
        while reached < len(text.text):
            piece = examples[next(pieces)]
            assert 0 < len(piece.ids) == len(piece.tags) <= window
            assert piece.ids.tolist() == VOCABULARY.encode(text.text)[reached:][: len(piece.ids)].tolist()
            spans += [Span(s + reached, e + reached, label) for s, e, label in tag_set.decode(piece.tags.tolist())]
            reached += len(piece.ids)
        assert spans == list(text.spans)
    assert next(pieces, None) is None


def test_a_mention_longer_than_the_window_is_refused():
    text = LabelledText("小" * 20, (Span(2, 12, "XH"),))
    with pytest.raises(ValueError, match="a mention at 2 has over 9 characters"):
        TaggedTexts([text], vocabulary=VOCABULARY, tag_set=TagSet.from_labels(["XH"]), window=9)


@given(st.lists(labelled().filter(lambda text: text.text), min_size=1, max_size=5))
def test_collate_pads_on_the_right(texts):
    tag_set = TagSet.from_labels(["HPPX", "XH"])
    examples = TaggedTexts(texts, vocabulary=VOCABULARY, tag_set=tag_set, window=60)
    batch = collate([examples[i] for i in range(len(examples))], pad_token_id=7)
    assert {tensor.shape for tensor in batch.values()} == {(len(texts), max(len(t.text) for t in texts))}
    for row, text in enumerate(texts):
        n = len(text.text)
        assert batch["input_ids"][row].tolist()[:n] == VOCABULARY.encode(text.text).tolist()
        assert batch["labels"][row].tolist()[:n] == tag_set.encode(text.spans, n)
        assert batch["attention_mask"][row].tolist() == [1] * n + [0] * (len(batch["labels"][row]) - n)
        assert set(batch["input_ids"][row, n:].tolist()) <= {7}
        assert not (batch["labels"][row, n:] >= 0).any()
    assert {tensor.dtype for tensor in batch.values()} == {torch.long}


@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_about_a_share_of_the_characters_is_hidden_and_no_padding(seed, share):
    draw = np.random.default_rng(seed)
    examples = [
        Example(draw.integers(9, 30, n).astype(np.int32), draw.integers(0, 3, n)) for n in (40, 5, 60, 1, 200, 150)
    ]
    plain = collate(examples, pad_token_id=7)
    torch.manual_seed(seed)
    found = collate(examples, pad_token_id=7, hidden_share=share, hidden_token_id=3)
    is_hidden = found["input_ids"] == 3
    mask = plain["attention_mask"].bool()
    assert is_hidden[mask].float().mean().item() == pytest.approx(share, abs=0.15)
    assert set(found["input_ids"][~mask].tolist()) == {7}
    assert torch.equal(found["input_ids"][~is_hidden], plain["input_ids"][~is_hidden])
    assert all(torch.equal(found[name], plain[name]) for name in ("attention_mask", "labels"))
