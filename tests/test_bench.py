"""The benchmark's figures: present, consistent and of what they claim to measure. How fast is not tested."""

import json
import math
import statistics
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecner.bench import (
    REPETITIONS,
    Arm,
    BenchResult,
    Profile,
    base_sized,
    count_flops,
    encoder_pipeline,
    packed,
    profile,
    render,
    run_bench,
    take,
    to_json,
)
from ecner.errors import DataError
from ecner.inference.reader import Reader
from ecner.labels import TagSet
from ecner.model.checkpoint import Checkpoint, build, decoder_config, encoder_config
from ecner.model.vocabulary import Vocabulary

WINDOW = 30
SIZE, LAYERS, EXPERT_SIZE = 16, 2, 32
TAGS = TagSet.from_labels(["HCCX", "HPPX"])
VOCABULARY = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"华为手机很好用,。x6充电快", "[SPACE]"))
TEXTS = ["华为手机很好用。", "", "x6 充电快", " \n", "手机\ud800\x00坏", "😀华为", "很好用," * 20]


def tiny(*, hybrid: bool = True, experts: int = 4) -> Reader:
    torch.manual_seed(0)
    checkpoint = build(
        TAGS,
        encoder=encoder_config(size=SIZE, layers=LAYERS, heads=2, positions=WINDOW + 2),
        decoder=decoder_config(size=8, layers=1, heads=2) if hybrid else None,
        vocabulary=VOCABULARY,
        experts=experts,
        expert_size=EXPERT_SIZE,
    )
    return Reader(checkpoint, device="cpu", max_batch_chars=64)


@pytest.fixture(scope="module")
def reader() -> Reader:
    return tiny()


@pytest.fixture(scope="module")
def result(reader: Reader) -> BenchResult:
    checkpoint = Checkpoint(reader.tagger, VOCABULARY)
    return run_bench(TEXTS, device="cpu", preset="small", checkpoint=checkpoint, characters=200)


def test_all_figures_are_positive_and_finite(result: BenchResult) -> None:
    arms = (result.bare, result.reading, result.pipeline)
    figures = [
        *(arm.rate for arm in arms),
        *(second for arm in arms for second in arm.seconds),
        *asdict(result.profile).values(),
        *(result.reading_to_bare, result.reading_to_pipeline, result.peak_share),
        *(result.flops_per_character, result.peak_flops, result.parameters, result.threads),
    ]
    assert all(math.isfinite(figure) and figure > 0 for figure in figures)
    assert all(len(arm.seconds) == REPETITIONS for arm in arms)


def test_each_arm_counts_the_characters_that_it_reads(result: BenchResult) -> None:
    texts = take(TEXTS, 200)
    assert (result.texts, result.characters) == (len(texts), 200)
    assert result.reading.characters == 200
    row = 200 // len(texts)
    assert result.bare.characters == 200 // row * row
    assert result.pipeline.characters == sum(min(len(text), WINDOW) for text in texts) < 200


def test_ratios_follow_from_the_figures(result: BenchResult) -> None:
    bare, reading, pipeline = (
        arm.characters / statistics.median(arm.seconds) for arm in (result.bare, result.reading, result.pipeline)
    )
    assert result.reading_to_bare == pytest.approx(reading / bare)
    assert result.reading_to_pipeline == pytest.approx(reading / pipeline)
    assert result.peak_share == pytest.approx(bare * result.flops_per_character / result.peak_flops)
    assert sum(asdict(result.profile).values()) == pytest.approx(1)


def test_json_holds_the_result_and_what_follows_from_it(result: BenchResult) -> None:
    figures = json.loads(to_json(result))
    for ratio in ("reading_to_bare", "reading_to_pipeline", "peak_share"):
        assert figures.pop(ratio) == getattr(result, ratio)
    for name in ("bare", "reading", "pipeline"):
        arm = figures.pop(name)
        assert arm.pop("rate") == getattr(result, name).rate
        figures[name] = Arm(arm.pop("characters"), tuple(arm.pop("seconds")))
        assert not arm
    figures["profile"] = Profile(**figures["profile"])
    assert BenchResult(**figures) == result


def test_the_table_shows_the_figures(result: BenchResult) -> None:
    table = render(result)
    assert all(line.isprintable() for line in table.splitlines())
    for figure in (f"{result.bare.rate:,.0f}", f"{result.reading_to_pipeline:.2f}", result.device_name):
        assert figure in table


def test_pipeline_runs_the_encoder_of_the_tagger(reader: Reader, tmp_path: Path) -> None:
    text = "华为手机很好用,充电快。"
    Checkpoint(reader.tagger, VOCABULARY).save(tmp_path)
    encoder = Checkpoint.load(tmp_path).tagger.encoder
    pipeline = encoder_pipeline(reader)
    inputs = pipeline.tokenizer(text, return_tensors="pt")
    framed = torch.tensor([[2, *VOCABULARY.encode(text).tolist(), 3]])
    assert torch.equal(inputs["input_ids"], framed)
    with torch.no_grad():
        theirs = pipeline.model(**inputs, output_hidden_states=True).hidden_states[-1]
        ours = encoder(input_ids=framed, attention_mask=torch.ones_like(framed)).last_hidden_state
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)


def test_packed_rows_are_full_and_hold_the_characters_in_order(reader: Reader) -> None:
    texts = [text for text in TEXTS if text]
    batches = packed(reader, texts)
    (length,) = {batch.shape[1] for batch in batches}
    assert length == sum(map(len, texts)) // len(texts)
    assert all(batch.numel() <= reader.max_batch_chars for batch in batches)
    ids = torch.cat(batches).flatten().numpy()
    expected = VOCABULARY.encode("".join(texts))
    assert len(expected) - len(ids) < length
    np.testing.assert_array_equal(ids, expected[: len(ids)])


def test_rows_of_long_texts_fit_the_window(reader: Reader) -> None:
    assert {batch.shape[1] for batch in packed(reader, ["好" * 100] * 3)} == {WINDOW}


@given(texts=st.lists(st.text(max_size=5), max_size=5), characters=st.integers(1, 60))
def test_texts_are_taken_in_order_and_over_again(texts: list[str], characters: int) -> None:
    joined = "".join(texts)
    if not joined:
        with pytest.raises(DataError, match="at least one character"):
            take(texts, characters)
        return
    taken = take(texts, characters)
    assert "".join(taken) == (joined * characters)[:characters]
    assert all(taken)
    assert set(taken[:-1]) <= set(texts)


@pytest.mark.parametrize("length", [1, 7, WINDOW])
def test_operations_of_bert_crf_are_those_of_its_matrices(length: int) -> None:
    positions = length + 2  # the special tokens are computed, too
    matrices = 2 * positions * 12 * SIZE**2
    attention = 2 * 2 * positions**2 * SIZE
    classifier = 2 * length * SIZE * len(TAGS.tags)
    counted = count_flops(tiny(hybrid=False), length)
    assert counted * length == pytest.approx(LAYERS * (matrices + attention) + classifier)


def test_experts_that_are_not_chosen_cost_nothing_but_their_routing() -> None:
    few, many = (count_flops(tiny(experts=n), 20) for n in (4, 8))
    assert many - few == pytest.approx(2 * 8 * (8 - 4))


def test_profile_leaves_the_reader_as_it_was(reader: Reader) -> None:
    before = reader.read(TEXTS)
    shares = profile(reader, TEXTS)
    assert 0 < shares.forward < 1
    assert not reader.tagger._forward_hooks
    assert not reader.tagger._forward_pre_hooks
    np.testing.assert_array_equal(reader.read(TEXTS).start, before.start)


def test_base_preset_has_the_sizes_it_is_named_for(reader: Reader) -> None:
    with torch.device("meta"):
        tagger = base_sized(Checkpoint(reader.tagger, VOCABULARY)).tagger
    assert tagger.branch is not None
    layers, decoder = (
        sum(p.numel() for p in part.parameters()) for part in (tagger.encoder.encoder, tagger.branch.decoder)
    )
    assert layers == 102_267_648 - 16_622_592 - 590_592  # bert-base-chinese less its embeddings and pooler
    assert decoder == 494_032_768 - 151_936 * 896  # Qwen2.5-0.5B less its embeddings
    assert tagger.config.tag_set == reader.tag_set
