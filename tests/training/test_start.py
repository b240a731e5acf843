import pytest
import torch

from ecner.config import TrainSettings
from ecner.errors import UsageError
from ecner.labels import TagSet
from ecner.training.start import starting_point
from tests.model.test_checkpoint import bert_folder
from tests.tiny import ARCHITECTURES, LABELS, tiny

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"小米a华"]
NEW = {"decoder_size": 16, "decoder_layers": 1, "decoder_heads": 2, "expert_size": 8, "experts": 3}


def state(checkpoint):
    return checkpoint.tagger.state_dict()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tagger_is_taken_up_whole_with_its_own_tags(tmp_path, architecture):
    base = tiny(architecture)
    base.save(tmp_path)
    start = starting_point(TrainSettings(base=str(tmp_path)), TagSet.from_labels(["OTHER"]))
    assert (start.new, start.checkpoint.tagger.config.tag_set) == (set(), TagSet.from_labels(LABELS))
    found = start.checkpoint
    assert all(torch.equal(tensor, state(found)[name]) for name, tensor in state(base).items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_encoder_gets_what_the_settings_ask_for(tmp_path, architecture):
    bert = bert_folder(tmp_path, TOKENS)
    settings = TrainSettings(base=str(tmp_path), architecture=architecture, encoder_layers=2, dropout=0.3, **NEW)
    start = starting_point(settings, TagSet.from_labels(LABELS))
    assert start.new == ({"moe", "decoder"} if architecture == "hybrid" else set())
    found = start.checkpoint
    config = found.tagger.config
    assert (config.architecture, config.encoder.num_hidden_layers, config.dropout) == (architecture, 2, 0.3)
    assert config.encoder.attention_probs_dropout_prob == 0
    name = "embeddings.position_embeddings.weight"
    assert torch.equal(found.tagger.encoder.state_dict()[name], bert.state_dict()[name])
    if architecture == "hybrid":
        assert (config.experts, config.decoder.hidden_size, config.decoder.num_hidden_layers) == (3, 16, 1)
    else:
        assert found.tagger.branch is None


def test_new_weights_come_from_the_seed(tmp_path):
    bert_folder(tmp_path, TOKENS)
    first, again, other = (
        state(
            starting_point(TrainSettings(base=str(tmp_path), seed=seed, **NEW), TagSet.from_labels(LABELS)).checkpoint
        )
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["branch.adapter.weight"], other["branch.adapter.weight"])


def test_a_tagger_keeps_its_architecture(tmp_path):
    tiny().save(tmp_path)
    tags = TagSet.from_labels(LABELS)
    with pytest.raises(UsageError, match="a tagger, whose architecture, experts cannot be changed"):
        starting_point(TrainSettings(base=str(tmp_path), architecture="bert-crf", experts=4), tags)


def test_no_experts_a_softmax_head_and_a_branch_of_zeros_are_what_the_settings_ask_for(tmp_path):
    bert_folder(tmp_path, TOKENS)
    settings = TrainSettings(base=str(tmp_path), **NEW | {"experts": 0}, head="softmax", branch_start="zero")
    start = starting_point(settings, TagSet.from_labels(LABELS))
    tagger = start.checkpoint.tagger
    assert start.new == {"decoder"}
    assert (tagger.branch.moe, tagger.config.head, tagger.config.experts) == (None, "softmax", 0)
    assert not any(parameter.any() for parameter in tagger.branch_classifier.parameters())
    assert tagger.encoder_classifier.weight.any()
