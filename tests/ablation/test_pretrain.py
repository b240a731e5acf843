"""Pre-training leaves an encoder that a tagger can start from, learns, and goes on where it was killed."""

import json
from itertools import pairwise

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from ecner.config import TrainSettings
from ecner.labels import TagSet
from ecner.training.start import starting_point
from tests.ablation import pretrain as module
from tests.ablation.pretrain import MaskedCharacters, pretrain
from tests.model.test_checkpoint import bert_folder
from tests.tiny import LABELS

CHARACTERS = "小米华为手机a1真好用不错买了，"
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS]
TEXTS = [
    f"{before}{brand}手机a1{after}"
    for brand in ("小米", "华为")
    for before in ("", "买了")
    for after in ("，真好用", "不错")
] * 4
OPTIONS = {"layers": 2, "epochs": 3, "batch_chars": 100, "learning_rate": 5e-3}
LONGEST = 40  # characters that the encoder reads at once


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    bert_folder(folder, TOKENS)
    return str(folder)


@pytest.fixture(scope="module")
def pretrained(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    pretrain(encoder, TEXTS, folder, **OPTIONS)
    return folder


def state(folder):
    return AutoModel.from_pretrained(folder).state_dict()


def log(folder):
    (last,) = (folder / "work").glob("checkpoint-*")
    return json.loads((last / "trainer_state.json").read_text())


def test_its_folder_is_an_encoder_like_the_one_before(encoder, pretrained):
    model, tokenizer = AutoModel.from_pretrained(pretrained), AutoTokenizer.from_pretrained(pretrained)
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(encoder).get_vocab()
    assert model.config.vocab_size == AutoModel.from_pretrained(encoder).config.vocab_size
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_its_first_layers_are_kept(encoder, pretrained):
    assert AutoModel.from_pretrained(pretrained).config.num_hidden_layers == 2
    trained = {name for name in state(pretrained) if not name.startswith("pooler.")}
    given = {name for name in state(encoder) if not name.startswith("pooler.")}
    assert trained == {name for name in given if ".layer.2." not in name}
    assert trained < given


def test_a_tagger_starts_from_it(pretrained):
    settings = TrainSettings(base=str(pretrained), architecture="bert-crf")
    tagger = starting_point(settings, TagSet.from_labels(LABELS)).checkpoint.tagger
    assert tagger.config.encoder.num_hidden_layers == 2
    given = state(pretrained)
    for name, tensor in tagger.encoder.state_dict().items():
        rows = min(len(tensor), len(given[name]))
        assert torch.equal(tensor[:rows], given[name][:rows]), name


def test_all_layers_are_trained_from_those_of_the_encoder(encoder, tmp_path):
    pretrain(encoder, TEXTS[:4], tmp_path, epochs=1, learning_rate=1e-9)
    before, after = state(encoder), state(tmp_path)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if not name.startswith("pooler."):  # which is of no use to it
            torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)


def test_the_loss_falls(encoder, tmp_path):
    pretrain(encoder, TEXTS, tmp_path, **OPTIONS | {"epochs": 50})
    losses = [row["loss"] for row in log(tmp_path)["log_history"] if "loss" in row]
    assert len(losses) >= 3
    assert losses[-1] < 0.6 * losses[0]


def killed(monkeypatch, step, pretrain_once):
    """Runs a pre-training that dies in a step."""
    losses = MaskedCharacters.compute_loss

    def dying(trainer, *arguments: object, **options: object):
        if trainer.state.global_step == step:
            raise KeyboardInterrupt
        return losses(trainer, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MaskedCharacters, "compute_loss", dying)
        with pytest.raises(KeyboardInterrupt):
            pretrain_once()


def test_a_killed_run_goes_on_from_its_last_epoch_to_the_same_weights(encoder, pretrained, tmp_path, monkeypatch):
    steps = log(pretrained)["global_step"]
    killed(monkeypatch, steps * 2 // 3 + 1, lambda: pretrain(encoder, TEXTS, tmp_path, **OPTIONS))
    assert log(tmp_path)["global_step"] == steps * 2 // 3
    assert not (tmp_path / "config.json").exists()
    done = []
    losses = MaskedCharacters.compute_loss
    monkeypatch.setattr(
        MaskedCharacters, "compute_loss", lambda *given, **options: done.append(1) or losses(*given, **options)
    )
    pretrain(encoder, TEXTS, tmp_path, **OPTIONS)
    assert (len(done), log(tmp_path)["global_step"]) == (steps // 3, steps)
    for name, tensor in state(pretrained).items():
        if not name.startswith("pooler."):
            torch.testing.assert_close(state(tmp_path)[name], tensor, rtol=1e-5, atol=1e-5)


def masked(encoder, texts, tmp_path, batch_chars=100):
    arguments = module.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    return MaskedCharacters(
        module.AutoModelForMaskedLM.from_pretrained(encoder),
        arguments,
        tokenizer=AutoTokenizer.from_pretrained(encoder),
        vocabulary=module.encoder_vocabulary(encoder),
        texts=texts,
        batch_chars=batch_chars,
    )


def test_texts_are_read_as_the_tagger_reads_them(encoder, tmp_path):
    """A position a character, one that the tokenizer has no entry for being unknown; empty ones are left out."""
    texts = ["小米 Ａ1", "", "x" * LONGEST, "好" * (LONGEST + 9)]
    rows = [row["input_ids"] for row in masked(encoder, texts, tmp_path).rows]
    of = TOKENS.index
    start, end, unknown = of("[CLS]"), of("[SEP]"), of("[UNK]")
    assert rows[0] == [start, of("小"), of("米"), unknown, of("a"), of("1"), end]
    assert rows[1:] == [[start, *[unknown] * LONGEST, end], [start, *[of("好")] * LONGEST, end]]


def test_batches_hold_neighbours_in_length_within_the_budget(encoder, tmp_path):
    texts = ["小" * n for n in range(1, 30)]
    lengths = [batch["attention_mask"].sum(1) for batch in masked(encoder, texts, tmp_path).get_train_dataloader()]
    assert sorted(torch.cat(lengths).tolist()) == [n + 2 for n in range(1, 30)]
    assert all(len(rows) == 1 or len(rows) * rows.max() <= 100 for rows in lengths)
    ordered = sorted(lengths, key=lambda rows: rows.max())
    assert all(shorter.max() <= longer.min() for shorter, longer in pairwise(ordered))


def test_only_hidden_characters_are_asked(encoder, tmp_path):
    trainer = masked(encoder, TEXTS, tmp_path, batch_chars=1000)
    model = trainer.model.eval()
    inputs = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        expected = model(**inputs).loss  # transformers' own, over the whole vocabulary at each position
        found = trainer.compute_loss(model, dict(inputs))
        nothing = inputs | {"labels": torch.full_like(inputs["labels"], -100)}
    torch.testing.assert_close(found, expected)
    asked = (inputs["labels"] >= 0).sum() / inputs["attention_mask"].sum()
    assert 0.05 < asked < 0.25
    trainer.compute_loss(model, nothing).backward()  # a short batch may ask nothing: it teaches nothing
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
