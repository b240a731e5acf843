"""Adapters: which modules get one, that merging changes nothing, and that a saved one comes back whole."""

import json
import shutil
from functools import partial

import pytest
import torch

from ecner.config import LoraSettings
from ecner.errors import ModelError, UsageError
from ecner.labels import TagSet
from ecner.model import lora
from ecner.model.checkpoint import Checkpoint, fingerprint, load_adapted
from ecner.model.lora import ADAPTER_WEIGHTS, adapted, add_lora, load_lora, save_lora
from ecner.model.manifest import write_manifest
from tests.tiny import ARCHITECTURES, LABELS, as_base, tiny

FULL = {"encoder_classifier", "branch_classifier", "crf", "adapter", "moe"}


def trained(model):
    """Names of the parameters that are trained, without peft's own parts."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return {name.removeprefix("base_model.model.").replace("modules_to_save.default.", "") for name in names}


def shaken(model, seed=1):
    """Random values for all that is trained: adapters begin as nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def logits(tagger):
    ids, mask = torch.arange(4, 12).view(2, 4), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.no_grad():
        return tagger.eval()(ids, mask).logits


@pytest.mark.parametrize(
    ("options", "encoder", "decoder"),
    [
        ({}, 4, 8),
        ({"decoder_layers": [1]}, 4, 4),
        ({"encoder_layers": [], "decoder_layers": [1], "projections": ["query", "value"]}, 0, 2),
        ({"projections": ["output"]}, 1, 2),
    ],
)
def test_adapters_go_where_the_settings_say(options, encoder, decoder):
    tagger = tiny().tagger
    model = add_lora(tagger, LoraSettings(**options))
    assert adapted(tagger) == {"encoder": encoder, "decoder": decoder}
    with_lora = {name.split(".lora_")[0] for name in trained(model) if ".lora_" in name}
    assert len(with_lora) == encoder + decoder
    assert all("attention" in name or "self_attn" in name for name in with_lora)


@pytest.mark.parametrize("moe", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_beside_them_is_trained_in_full(architecture, moe):
    tagger = tiny(architecture).tagger
    model = add_lora(tagger, LoraSettings(moe=moe))
    whole = {name for name in trained(model) if ".lora_" not in name}
    expected = FULL - (set() if moe else {"moe"}) if architecture == "hybrid" else {"encoder_classifier", "crf"}
    own = tiny(architecture).tagger
    assert whole == {name for name, _ in own.named_parameters() if expected & set(name.split("."))}


def test_a_decoder_without_pretrained_weights_is_trained_whole():
    tagger = tiny().tagger
    model = add_lora(tagger, LoraSettings(moe=False), new={"moe", "decoder"})
    assert adapted(tagger) == {"encoder": 4, "decoder": 0}
    own = {name for name, _ in tiny().tagger.named_parameters() if name.startswith("branch.")}
    assert own <= trained(model)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_trained_parameter_gets_a_gradient(architecture):
    model = shaken(add_lora(tiny(architecture).tagger, LoraSettings(dropout=0.0)))
    ids = torch.arange(4, 12).view(2, 4)
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.zeros_like(ids)).loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_adapters_begin_as_nothing():
    base = tiny()
    before = logits(base.tagger)
    assert torch.equal(logits(add_lora(base.tagger, LoraSettings()).base_model.model), before)


@pytest.mark.parametrize("tag_set", [None, TagSet.from_labels(["A", "B", "C"], "BILOU")])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_adapter_comes_back_whole_and_merges_exactly(tmp_path, architecture, tag_set):
    tag_set = tag_set or TagSet.from_labels(LABELS)
    base = as_base(tiny(architecture), tmp_path)
    checkpoint = tiny(architecture).with_tags(tag_set)
    model = shaken(add_lora(checkpoint.tagger, LoraSettings(r=2)))
    folder = tmp_path / "adapter"
    save_lora(model, folder, base=base.name, dtype=torch.float32)
    checkpoint.tagger.config.save_pretrained(folder)
    (folder / "version.json").write_text(json.dumps({"base": base.name, "merged": True}))
    write_manifest(folder)
    expected = logits(checkpoint.tagger)
    beside, merged = (load_adapted(folder, merge=merge) for merge in (False, True))
    assert beside.vocabulary == checkpoint.vocabulary
    torch.testing.assert_close(logits(beside.tagger), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(merged.tagger), expected, rtol=1e-3, atol=1e-3)
    assert not any("lora" in name for name, _ in merged.tagger.named_modules())
    assert torch.equal(merged.tagger.crf.transitions, checkpoint.tagger.crf.transitions)


def test_an_adapter_does_not_name_a_place_on_this_machine(tmp_path):
    checkpoint = tiny()
    checkpoint.save(tmp_path / "base")
    save_lora(add_lora(checkpoint.tagger, LoraSettings()), tmp_path / "adapter", base="base", dtype=torch.float16)
    assert str(tmp_path) not in (tmp_path / "adapter/adapter_config.json").read_text()


def test_a_base_of_another_shape_is_refused(tmp_path):
    save_lora(add_lora(tiny().tagger, LoraSettings()), tmp_path, base="base", dtype=torch.float32)
    with pytest.raises(ModelError, match="does not fit its base"):
        load_lora(tiny("bert-crf").tagger, tmp_path, merge=True)


def test_pickled_adapters_are_never_read(tmp_path):
    save_lora(add_lora(tiny().tagger, LoraSettings()), tmp_path, base="base", dtype=torch.float32)
    (tmp_path / ADAPTER_WEIGHTS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"holds no adapter_model\.safetensors"):
        load_lora(tiny().tagger, tmp_path, merge=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_layers": [0, 7]}, "encoder_layers names 7: expected 0 to 0"),
        ({"decoder_layers": [2, 5]}, "decoder_layers names 2, 5: expected 0 to 1"),
        ({"encoder_layers": [], "decoder_layers": []}, "names no layer at all"),
    ],
)
def test_layers_that_are_not_there_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        add_lora(tiny().tagger, LoraSettings(**options))


def test_a_pattern_that_matches_another_number_of_modules_is_refused(monkeypatch):
    monkeypatch.setitem(lora._ENCODER, "query", "attention.self.(query|key)")
    with pytest.raises(UsageError, match=r"expected \{'encoder': 1"):
        add_lora(tiny().tagger, LoraSettings(projections=["query"]))


@pytest.mark.parametrize(("harm", "told"), [("remove", "is gone"), ("alter", "is another than it was")])
def test_a_base_that_is_not_the_one_it_was_is_refused(tmp_path, harm, told):
    base = as_base(tiny(), tmp_path)
    checkpoint = tiny()
    folder = tmp_path / "adapter"
    save_lora(add_lora(checkpoint.tagger, LoraSettings()), folder, base=base.name, dtype=torch.float32)
    checkpoint.tagger.config.save_pretrained(folder)
    (folder / "version.json").write_text(json.dumps({"base": base.name, "merged": True}))
    Checkpoint.load(folder)
    if harm == "remove":
        shutil.rmtree(base)
    else:
        tiny(seed=9).save(base)
        write_manifest(base)
    for look in (Checkpoint.load, partial(fingerprint, decoder="", dtype="")):
        with pytest.raises(ModelError, match=f"{base.name}, the base of adapter, {told}"):
            look(folder)


@pytest.mark.parametrize("name", ["", ".", "..", "../base", "/etc", "a\\b", "base/", None])
def test_a_base_is_named_and_lies_beside_its_adapter(tmp_path, name):
    checkpoint = tiny()
    folder = tmp_path / "adapter"
    save_lora(add_lora(checkpoint.tagger, LoraSettings()), folder, base="base", dtype=torch.float32)
    checkpoint.tagger.config.save_pretrained(folder)
    known = {"merged": True} if name is None else {"base": name, "merged": True}
    (folder / "version.json").write_text(json.dumps(known))
    for look in (Checkpoint.load, partial(fingerprint, decoder="", dtype="")):
        with pytest.raises(ModelError, match=r"version\.json (has .* as its base: expected the name|does not tell)"):
            look(folder)
