"""The reader against enumerated paths, naive stitching and whole reading, on any text and in any order."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecner.errors import UsageError
from ecner.inference.reader import Reader, pack, resolve_device, tempered
from ecner.inference.windows import cut
from ecner.labels import TagSet, check_spans
from ecner.model.checkpoint import Checkpoint
from tests.tiny import ARCHITECTURES, CHARACTERS, LABELS, tiny

HARD = [
    "",
    "😀👨‍👩‍👧小米👍🏽a1",
    "e\u0301小\u0301米\u200d",
    "Ａ１　小米，Ｂ２",
    "小\ud83d米\udfffa1\udc00",
    "\0小\0米\0",
    "\0",
    "\ud800" * 30,
]
LONG = ("小米手机a1真好用，华为b22耳机。" * 700)[:10_000]
MIXED = st.text(st.one_of(st.sampled_from(CHARACTERS), st.characters(codec=None, categories=None)), max_size=70)


def readers():
    """A reader of each architecture and scheme, with O in another place for each."""
    bio, bilou = (TagSet.from_labels(LABELS, scheme) for scheme in ("BIO", "BILOU"))
    last = TagSet((*bio.tags[1:], "O"), "BIO")
    middle = TagSet((*bilou.tags[5:], "O", *bilou.tags[1:5]), "BILOU")
    cases = itertools.product(ARCHITECTURES, (bio, last, bilou, middle))
    return [Reader(tiny(a, tag_set=t), device="cpu") for a, t in cases]


READERS = readers()
ANY_READER = st.sampled_from(READERS)


def twin(reader, **changes: object):
    """A reader of the same model that differs in the given attributes."""
    made = copy.copy(reader)
    vars(made).update(changes)
    return made


def emit(reader, text):
    """Emissions of one text alone. (T, K)"""
    ids = torch.from_numpy(reader.vocabulary.encode(text)).long()[None]
    with torch.inference_mode():
        return reader.tagger(ids, torch.ones_like(ids)).logits[0]


def spans(reader, texts):
    return reader.read(texts).spans(reader.tag_set.labels)


def check(reader, texts):
    readings = reader.read(texts)
    assert readings.chars.tolist() == [len(text) for text in texts]
    assert np.all((readings.confidence > 0) & (readings.confidence <= 1))
    order = list(zip(readings.text.tolist(), readings.start.tolist(), strict=True))
    assert order == sorted(order)
    for text, found in zip(texts, readings.spans(reader.tag_set.labels), strict=True):
        assert check_spans(found, len(text)) == found
        for start, end, _ in found:
            assert not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text[start:end])
    return readings


@pytest.mark.parametrize("reader", READERS)
def test_hard_texts_are_read(reader):
    readings = check(reader, HARD)
    assert set(readings.text.tolist()) & {1, 2, 3, 4, 5}
    assert not set(readings.text.tolist()) & {0, 6, 7}
    assert readings.windows.tolist() == [1, 1, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("reader", READERS[::4])
def test_ten_thousand_characters_are_read_whole(reader):
    readings = check(reader, [LONG])
    assert readings.windows.tolist() == [1 + -(-(len(LONG) - 24) // 16)]
    assert readings.end.max() > len(LONG) - 30


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["\0"], ["小"]])
def test_next_to_nothing(texts):
    for reader in READERS:
        assert len(check(reader, texts).chars) == len(texts)


@settings(max_examples=30)
@given(ANY_READER, st.lists(MIXED, max_size=6))
def test_mentions_lie_inside_readable_text_and_do_not_overlap(reader, texts):
    check(reader, texts)


@settings(max_examples=25)
@given(ANY_READER, st.lists(MIXED, min_size=1, max_size=6), st.randoms(use_true_random=False), st.integers(1, 200))
def test_order_and_batch_size_change_nothing(reader, texts, random, max_batch_chars):
    order = list(range(len(texts)))
    random.shuffle(order)
    one = reader.read(texts)
    other = twin(reader, max_batch_chars=max_batch_chars).read([texts[i] for i in order])
    labels = reader.tag_set.labels
    assert [other.spans(labels)[order.index(i)] for i in range(len(texts))] == one.spans(labels)
    for i in range(len(texts)):
        mine, its = one.confidence[one.text == i], other.confidence[other.text == order.index(i)]
        np.testing.assert_allclose(its, mine, rtol=0, atol=1e-5)


@settings(max_examples=20)
@given(ANY_READER, st.lists(MIXED, min_size=1, max_size=4))
def test_beam_and_viterbi_find_the_same(reader, texts):
    assert spans(twin(reader, decoder="beam"), texts) == spans(reader, texts)


@settings(max_examples=25)
@given(ANY_READER, st.lists(MIXED, min_size=1, max_size=4), st.integers(1, 7))
def test_best_paths_are_distinct_readings_best_first(reader, texts, k):
    best = reader.best_paths(texts, k)
    for text, paths, found in zip(texts, best, spans(reader, texts), strict=True):
        assert 1 <= len(paths) <= k
        assert paths[0].spans == found
        shares = [path.probability for path in paths]
        assert shares == sorted(shares, reverse=True)
        assert shares[-1] >= 0
        assert sum(shares) <= 1 + 1e-9
        assert len({tuple(path.spans) for path in paths}) == len(paths)
        for path in paths:
            assert check_spans(path.spans, len(text)) == path.spans
            assert not any("\0" in text[s.start : s.end] for s in path.spans)


def test_all_paths_of_a_short_text_share_its_probability():
    for reader in READERS:
        for text in ("", "小", "小\0", "\0", "小a"):
            paths = reader.best_paths([text], 200)[0]
            assert sum(path.probability for path in paths) == pytest.approx(1, abs=1e-9)
    assert [[(p, list(s)) for p, s in paths] for paths in READERS[0].best_paths(["", "\0"], 3)] == [[(1.0, [])]] * 2


def test_the_best_path_of_a_long_text_is_found_however_unlikely():
    reader = READERS[0]
    (path,) = reader.best_paths([LONG], 1)[0]
    assert path.spans == spans(reader, [LONG])[0]
    assert path.probability < 1e-100


@pytest.mark.parametrize("scheme", ["BIO", "BILOU"])
@settings(max_examples=10)
@given(text=st.text(st.sampled_from(CHARACTERS), min_size=1, max_size=5))
def test_confidence_is_the_share_of_all_paths_with_the_mention(scheme, text):
    tag_set = TagSet.from_labels(["X"], scheme)
    reader = Reader(tiny("bert-crf", tag_set=tag_set, seed=3), device="cpu")
    crf, emissions = reader.tagger.crf, emit(reader, text).double()
    start, end, moves = (p.detach().double() for p in (crf.start, crf.end, crf.transitions))
    mass = {}
    for path in itertools.product(range(len(tag_set.tags)), repeat=len(text)):
        legal = all(tag_set.legal_transitions[a][b] for a, b in itertools.pairwise(path))
        if legal and tag_set.legal_start[path[0]] and tag_set.legal_end[path[-1]]:
            score = start[path[0]] + end[path[-1]] + sum(emissions[i, tag] for i, tag in enumerate(path))
            score += sum(moves[a, b] for a, b in itertools.pairwise(path))
            mass[path] = score.exp().item()
    readings = reader.read([text])
    best = tag_set.decode(max(mass, key=mass.get))
    assert readings.spans(tag_set.labels) == [best]
    for span, confidence in zip(best, readings.confidence, strict=True):
        share = sum(m for path, m in mass.items() if span in tag_set.decode(path)) / sum(mass.values())
        assert confidence == pytest.approx(share, abs=1e-5)


def stitched(reader, text):
    """Each character's emission from the window in which an edge that cuts text off is farthest away."""
    config, length = reader.tagger.config, len(text)
    starts = {0, max(0, length - config.window)}
    starts |= {s for s in range(0, length, config.window - config.overlap) if s + config.window < length}
    rows = []
    for i in range(length):
        margins = []
        for start in sorted(starts):
            end = min(start + config.window, length)
            if start <= i < end:
                left, right = i - start if start else length, end - 1 - i if end < length else length
                margins.append((min(left, right), start))  # of equals, the later one
        start = max(margins)[1]
        rows.append(emit(reader, text[start : start + config.window])[i - start])
    return torch.stack(rows)


@settings(max_examples=8)
@given(ANY_READER, st.text(st.sampled_from(CHARACTERS), min_size=25, max_size=70), st.sampled_from([24, 48, 1000]))
def test_a_long_text_is_decoded_over_its_stitched_windows(reader, text, max_batch_chars):
    emissions = stitched(reader, text)[None]
    tags, _ = reader.tagger.crf.viterbi(emissions, torch.ones(emissions.shape[:2], dtype=torch.bool))
    reader = twin(reader, max_batch_chars=max_batch_chars)
    assert spans(reader, [text]) == [reader.tag_set.decode(tags[0].tolist())]


@torch.no_grad()
def character_reader(window, overlap, seed=0):
    """A model that says of a character what it says anywhere: no attention, no feed-forward, no positions."""
    checkpoint = tiny("bert-crf", positions=302, window=window, overlap=overlap, seed=seed)
    encoder = checkpoint.tagger.encoder
    encoder.embeddings.position_embeddings.weight.zero_()
    for layer in encoder.encoder.layer:
        for dense in (layer.attention.output.dense, layer.output.dense):
            dense.weight.zero_()
            dense.bias.zero_()
    return Reader(checkpoint, device="cpu")


@settings(max_examples=40)
@given(
    st.integers(2, 30).flatmap(lambda window: st.tuples(st.just(window), st.integers(0, window - 1))),
    st.text(st.sampled_from(CHARACTERS), max_size=300),
    st.integers(0, 3),
)
def test_windows_lose_and_double_no_mention(sizes, text, seed):
    in_windows = character_reader(*sizes, seed=seed).read([text])
    whole = character_reader(300, 0, seed=seed).read([text])
    assert whole.windows.tolist() == [1]
    for column in ("text", "label", "start", "end", "chars"):
        assert getattr(in_windows, column).tolist() == getattr(whole, column).tolist()
    np.testing.assert_allclose(in_windows.confidence, whole.confidence, rtol=0, atol=1e-6)


def test_the_windows_of_the_test_above_cut_through_mentions():
    text = LONG[:180]
    found = {seed: spans(character_reader(10, 3, seed), [text])[0] for seed in range(4)}
    seams = [w.keep_end for w in cut(len(text), window=10, overlap=3)]
    assert any(s.start < seam < s.end for mentions in found.values() for s in mentions for seam in seams)


def test_seconds_are_counted():
    reader = Reader(tiny(), device="cpu")
    assert reader.seconds == {"forward": 0.0, "decode": 0.0}
    reader.read(HARD[:3])
    assert all(seconds > 0 for seconds in reader.seconds.values())


def test_bfloat16_reads_too():
    reader = Reader(tiny(), device="cpu", dtype="bfloat16")
    assert next(reader.tagger.parameters()).dtype == torch.bfloat16
    check(reader, HARD)


def test_the_device_and_dtype_that_suit():
    assert resolve_device("cpu", "auto") == (torch.device("cpu"), torch.float32)
    assert resolve_device("cpu", "bfloat16") == (torch.device("cpu"), torch.bfloat16)
    expected = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    device, dtype = resolve_device("auto", "auto")
    assert (device.type, dtype) == expected


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120))
def test_pack_keeps_to_the_budget(lengths, budget):
    ordered = np.sort(np.array(lengths, dtype=np.int64))[::-1]
    batches = [ordered[rows] for rows in pack(ordered, budget)]
    assert [n for batch in batches for n in batch.tolist()] == ordered.tolist()
    for batch, following in itertools.zip_longest(batches, batches[1:]):
        assert len(batch) == 1 or len(batch) * batch[0] <= budget
        assert following is None or (len(batch) + 1) * batch[0] > budget


@pytest.mark.parametrize("device", ["tpu-v9", "gpu"] + ([] if torch.cuda.is_available() else ["cuda"]))
def test_a_device_that_is_not_there_is_a_usage_error(device: str) -> None:
    with pytest.raises(UsageError, match="expected auto"):
        resolve_device(device, "auto")


def test_bfloat16_leaves_the_rotary_frequencies_alone():
    reader = Reader(tiny(), device="cpu", dtype="bfloat16")
    assert {p.dtype for p in reader.tagger.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in reader.tagger.buffers() if b.is_floating_point()} == {torch.float32}


def by_formula(log_posterior, temperature):
    """A probability whose log-odds are divided by the temperature, in Python's floats."""
    odds = (log_posterior - math.log(-math.expm1(log_posterior))) / temperature
    return 1 / (1 + math.exp(-odds))


LOGS = st.lists(st.floats(-50, -1e-12), min_size=1, max_size=20).map(np.array)
TEMPERATURES = st.floats(0.2, 5)


@given(LOGS, TEMPERATURES)
def test_tempered_divides_the_log_odds(logs, temperature):
    found = tempered(logs, np.full(len(logs), temperature))
    expected = [by_formula(value, temperature) for value in logs.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@given(LOGS)
def test_a_temperature_of_1_leaves_the_posteriors_bit_for_bit(logs):
    assert tempered(logs, np.ones(len(logs))).tolist() == np.exp(logs).tolist()
    np.testing.assert_allclose(tempered(logs, np.full(len(logs), 1 + 1e-12)), np.exp(logs), rtol=1e-6)


@given(LOGS, TEMPERATURES)
def test_tempering_keeps_the_order_and_the_side_of_a_half(logs, temperature):
    logs = np.sort(np.append(logs, math.log(0.5)))
    found = tempered(logs, np.full(len(logs), temperature))
    assert np.all(np.diff(found) >= 0)
    assert np.all((found > 0) & (found <= 1))
    assert found[logs == math.log(0.5)] == pytest.approx(0.5)
    away = np.abs(found - 0.5) - np.abs(np.exp(logs) - 0.5)
    assert np.all((away <= 1e-12) if temperature >= 1 else (away >= -1e-12))


@given(TEMPERATURES | st.just(1.0))
def test_what_is_certain_stays_certain(temperature):
    given = np.array([-math.inf, 0.0, 0.0])
    assert tempered(given, np.full(3, temperature)).tolist() == [0, 1, 1]


@settings(max_examples=20)
@given(ANY_READER, st.lists(MIXED, min_size=1, max_size=4), st.dictionaries(st.sampled_from(LABELS), TEMPERATURES))
def test_a_reader_with_temperatures_finds_the_same_with_other_confidences(reader, texts, temperatures):
    own = reader.read(texts)
    checkpoint = Checkpoint(reader.tagger, reader.vocabulary)
    reader.tagger.config.temperatures = temperatures or None
    try:
        found = Reader(checkpoint, device="cpu").read(texts)
    finally:
        reader.tagger.config.temperatures = None
    for column in ("text", "label", "start", "end", "chars", "windows"):
        assert getattr(found, column).tolist() == getattr(own, column).tolist()
    labels = [reader.tag_set.labels[i] for i in own.label]
    for label, before, after in zip(labels, own.confidence.tolist(), found.confidence.tolist(), strict=True):
        if label in temperatures and before < 1:
            assert after == pytest.approx(by_formula(math.log(before), temperatures[label]), rel=1e-6)
        else:
            assert after == before
