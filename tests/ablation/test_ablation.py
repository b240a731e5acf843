"""Plans are read, folds and added rows leak nothing, a figure beyond its spread is told, and no cell is done twice."""

import copy
import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ecner.config import TrainSettings, load_settings
from ecner.data.corpus import read_corpus, write_corpus
from ecner.data.rows import LabelledText
from ecner.inference.reader import Reader
from ecner.labels import Span
from ecner.model.checkpoint import Checkpoint
from tests.ablation import __main__ as command
from tests.ablation import cell, table
from tests.ablation.command import PLANS, Inputs
from tests.ablation.data import LABELS, Sets, added_rows
from tests.ablation.ensemble import Ensemble
from tests.ablation.plan import Plan
from tests.model.test_checkpoint import TEXTS, bert_folder
from tests.tiny import CHARACTERS, tiny

SHIPPED = sorted(PLANS.glob("*.yaml"))
PARTS = {"reviews_dev", "titles_dev", "titles_dev_unseen"}
TINY = {
    "about": "Small enough for a test.",
    "seeds": [0, 1],
    "folds": 2,
    "train": {
        "method": "full", "architecture": "hybrid", "encoder_layers": 1, "decoder_size": 16, "decoder_layers": 1,
        "decoder_heads": 2, "experts": 2, "experts_per_token": 1, "expert_size": 8, "epochs": 1, "batch_chars": 64,
    },
    "variants": {
        "whole": {},
        "reviews twice": {"architecture": "bert-crf", "added": ["reviews"], "average": 0.9},
        "taught": {"architecture": "bert-crf", "teachers": ["one", "two"], "splits": ["reviews"], "epochs": 3},
    },
}  # fmt: skip


def rows_of(kind, count=10):
    """Labelled texts with a mention of each label, told apart by their number."""
    return tuple(
        LabelledText(f"{kind}买了小米手机a{i}好用", tuple(Span(n + 1, n + 2, label) for n, label in enumerate(LABELS)))
        for i in range(count)
    )


SETS = Sets(rows_of("一"), rows_of("二"), rows_of("三"), rows_of("四"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    for name, train, dev in [
        ("ecommerce", SETS.titles, SETS.titles_dev),
        ("reviews_labelled", SETS.reviews, SETS.reviews_dev),
    ]:
        (folder / "data" / name).mkdir(parents=True)
        write_corpus(folder / "data" / name / "train.jsonl", train, "jsonl")
        write_corpus(folder / "data" / name / "dev.jsonl", dev, "jsonl")
    bert_folder(folder / "models/e5-small-zh-char", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS])
    return folder


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY, sort_keys=False), "utf-8")
    return Plan.read(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_variant_of_a_plan_is_a_training(path, tmp_path):
    plan = Plan.read(path)
    assert plan.name == path.stem
    assert plan.about
    assert plan.variants
    for variant in plan.variants:
        for seed in plan.seeds:
            found = variant.train_settings(seed=seed, base=tmp_path)
            assert isinstance(found, TrainSettings)
            assert (found.seed, found.base) == (seed, str(tmp_path))
            said = {name: value for name, value in variant.settings.items() if name not in {"seed", "lora"}}
            assert {name: getattr(found, name) for name in said} == said
    folders = {command._folder(SimpleNamespace(folder=tmp_path), v.name, 0) for v in plan.variants}
    assert len(folders) == len(plan.variants)


def test_a_variant_says_only_what_it_changes(plan):
    whole, twice, taught = plan.variants
    assert twice.settings == {**whole.settings, "architecture": "bert-crf", "average": 0.9}
    assert (whole.encoder, whole.added, twice.added) == ("plain", (), ("reviews",))
    assert (taught.added, taught.teachers, whole.teachers) == ((), ("one", "two"), ())
    assert (taught.splits, whole.splits) == (("reviews",), ("titles", "reviews"))
    assert plan.variant("whole") is whole
    with pytest.raises(SystemExit, match="tiny has no variant 'half': expected one of"):
        plan.variant("half")


def test_the_sets_are_those_of_the_folder(shared):
    sets = Sets.read(shared)
    assert sets == SETS
    assert sets.train == SETS.titles + SETS.reviews
    assert set(sets.tag_set.labels) == set(LABELS) == set(load_settings(environ={}).model.labels)


@given(st.integers(1, 30), st.integers(0, 30), st.integers(2, 10))
def test_folds_part_the_train_rows(titles, reviews, folds):
    sets = Sets(rows_of("一", titles), rows_of("二", reviews), (), ())
    held_once = []
    for number in range(folds):
        rows, held = sets.fold(number, folds)
        assert sorted(map(hash, [*rows, *held])) == sorted(map(hash, sets.train))
        assert not set(rows) & set(held)
        assert abs(len(held) - len(sets.train) / folds) < 1
        held_once += held
    assert sorted(map(hash, held_once)) == sorted(map(hash, sets.train))
    assert sets.fold(0, folds) == sets.fold(0, folds)


def holding(row):
    """The row's text and more."""
    return LabelledText(f"看看{row.text}吧", tuple(Span(s.start + 2, s.end + 2, s.label) for s in row.spans))


@pytest.mark.parametrize("leak", [SETS.titles_dev[3], SETS.reviews_dev[0], holding(SETS.reviews_dev[9])])
def test_added_rows_with_dev_texts_are_refused(tmp_path, leak):
    good = rows_of("五", 3)
    assert SETS.admitted([*good, leak]) == list(good)
    files = {name: tmp_path / f"{name}.jsonl" for name in ("good", "bad")}
    write_corpus(files["good"], good, "jsonl")
    write_corpus(files["bad"], [*good, leak], "jsonl")
    assert added_rows(SETS, ["good"], files) == list(good)
    with pytest.raises(SystemExit, match=r"bad\.jsonl holds rows with dev texts: make it anew"):
        added_rows(SETS, ["good", "bad"], files)


def test_added_rows_are_named(tmp_path):
    assert added_rows(SETS, [], {}) == []
    assert added_rows(SETS, ["reviews"], {}) == list(SETS.reviews)
    with pytest.raises(SystemExit, match="name the rows 'renamed' with --added renamed=FILE"):
        added_rows(SETS, ["reviews", "renamed"], {"other": tmp_path})


def found_of(f1, seed=0):
    """What a cell found, each figure another one."""
    types = ("all", "brand", "model_number", "product", "misc")
    scores = {part: {t: {"f1": round(f1 - i / 100, 5)} for i, t in enumerate(types)} for part in PARTS}
    return {"variant": "whole", "seed": seed, "parameters": 1_250_000, "scores": scores}


@pytest.fixture
def results(plan, tmp_path, monkeypatch):
    """The table of a plan with one variant: F1 of 0.80 and 0.82, so a spread of 2.83 points."""
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    table.write_results(plan, [found_of(0.80), found_of(0.82, seed=1)], {"whole": 1234.4})
    return table.read_results("tiny")


@pytest.mark.parametrize(
    ("change", "is_missed"), [(0.0, False), (0.028, False), (-0.028, False), (0.029, True), (-0.029, True)]
)
def test_a_figure_beyond_the_spread_is_told(results, change, is_missed):
    found = found_of(0.80)
    found["scores"]["titles_dev"]["brand"]["f1"] += change
    wrong = table.misses(results, found)
    assert bool(wrong) == is_missed
    if wrong:
        (line,) = wrong
        assert line == f"titles_dev, brand: {0.79 + change:.4f}, expected 0.7900 ± 0.0283"


def test_a_figure_is_compared_with_that_of_its_seed(results):
    assert table.misses(results, found_of(0.82, seed=1)) == []
    assert len(table.misses(results, found_of(0.86, seed=1))) == 5 * len(PARTS)


def test_the_table_reads(results, tmp_path):
    lines = (tmp_path / "results/tiny.md").read_text("utf-8").splitlines()
    assert lines[0] == TINY["about"]
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert lines[4].startswith("| whole | 81.00 ± 2.83 | 80.00 ± 2.83 | 79.00 ± 2.83 |")
    assert lines[4].endswith("| 1.2 M | 1,234 |")


@settings(max_examples=6)
@given(st.lists(st.text(st.sampled_from(CHARACTERS), max_size=30), min_size=1, max_size=4), st.integers(1, 3))
def test_an_ensemble_of_one_tagger_many_times_over_reads_like_it(texts, count):
    checkpoint = tiny()
    ensemble = Ensemble([copy.deepcopy(checkpoint.tagger) for _ in range(count)])
    own, found = (
        Reader(Checkpoint(tagger, checkpoint.vocabulary), device="cpu").read([*TEXTS, *texts])
        for tagger in (checkpoint.tagger, ensemble)
    )
    for column in ("text", "label", "start", "end"):
        assert getattr(found, column).tolist() == getattr(own, column).tolist()
    assert found.confidence.tolist() == pytest.approx(own.confidence.tolist(), abs=1e-5)


@torch.no_grad()
def test_an_ensembles_path_scores_are_means():
    taggers = [tiny(seed=seed).tagger for seed in (0, 1)]
    ensemble = Ensemble(taggers)
    ids = torch.from_numpy(tiny().vocabulary.encode(TEXTS[0])).long()[None]
    mask = torch.ones_like(ids)
    own = [tagger(ids, mask).logits for tagger in taggers]
    assert not torch.allclose(*own)
    torch.testing.assert_close(ensemble(ids, mask).logits, (own[0] + own[1]) / 2)
    for name, parameter in ensemble.crf.named_parameters():
        torch.testing.assert_close(parameter, sum(t.crf.get_parameter(name) for t in taggers) / 2)


def inputs_of(plan, shared, **teachers: object):
    return Inputs(plan, shared, {"plain": shared / "models/e5-small-zh-char"}, {}, teachers)


def test_a_taught_cell_learns_from_its_teachers(shared, plan, tmp_path):
    with pytest.raises(SystemExit, match=r"name the teacher\(s\) two with --teacher NAME=FOLDER"):
        cell.run_cell(inputs_of(plan, shared, one=tmp_path), "taught", 0, tmp_path / "no")
    teachers = {name: tmp_path / name for name in ("one", "two")}
    for seed, folder in enumerate(teachers.values()):
        tiny(tag_set=SETS.tag_set, seed=seed).save(folder)
    found = []
    for variant in (plan.variant("taught"), dataclasses.replace(plan.variant("taught"), name="alone", teachers=())):
        own = dataclasses.replace(plan, variants=(variant,))
        cell.run_cell(inputs_of(own, shared, **teachers), variant.name, 0, tmp_path / variant.name)
        tagger = Checkpoint.load(tmp_path / variant.name / cell.TRAINED).tagger
        found.append(tagger.encoder_classifier.weight)
    assert not torch.equal(*found)


def test_a_cell_is_trained_on_the_splits_of_its_variant(shared, plan, tmp_path):
    inputs, held = inputs_of(plan, shared), tmp_path / "held.jsonl"
    rows, _ = SETS.fold(0, 2)
    for variant in plan.variants:
        expected = [row for row in rows if "reviews" in variant.splits and row in SETS.reviews]
        expected += [row for row in rows if "titles" in variant.splits and row in SETS.titles]
        found = cell._rows(inputs, SETS, dataclasses.replace(variant, added=()), 0, held)
        assert sorted(map(hash, found)) == sorted(map(hash, expected))


def test_a_cell_is_trained_scored_and_never_done_twice(shared, plan, tmp_path, monkeypatch):
    inputs = inputs_of(plan, shared)
    trained = []

    def recorded(checkpoint, options, *, train, **given: object):
        trained.append(list(train))
        return train_once(checkpoint, options, train=train, **given)

    train_once = cell.train
    monkeypatch.setattr(cell, "train", recorded)
    folder = tmp_path / "cell"
    cell.run_cell(inputs, "reviews twice", 1, folder)
    found = json.loads((folder / cell.SCORE).read_text())
    held = list(read_corpus(folder / cell.HELD, strict=True).texts)
    rows, fold = SETS.fold(1, 2)
    assert held == fold
    assert trained == [[*rows, *SETS.reviews]]  # none of dev
    assert (found["variant"], found["seed"], found["scores"].keys()) == ("reviews twice", 1, PARTS)
    for part in found["scores"].values():
        assert part.keys() == {"all", *load_settings(environ={}).model.labels.values()}
        assert all(0 <= figure <= 1 for figures in part.values() for figure in figures.values())
    tagger = Checkpoint.load(folder / cell.TRAINED).tagger
    assert tagger.branch is None
    assert found["parameters"] == sum(parameter.numel() for parameter in tagger.parameters())
    assert not list(folder.glob("checkpoint-*"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    cell.run_cell(inputs, "reviews twice", 1, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert len(trained) == 1
