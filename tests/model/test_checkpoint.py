"""Model folders: what is saved is what is loaded, in another process too, and what does not fit is refused."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import BertConfig, BertModel, Qwen2Config, Qwen2Model

from ecner.errors import ModelError
from ecner.inference.reader import Reader
from ecner.labels import TagSet
from ecner.model.checkpoint import VOCABULARY, WEIGHTS, Checkpoint, build, decoder_config, fingerprint
from ecner.model.vocabulary import WHITE_SPACE, Vocabulary
from tests.tiny import ARCHITECTURES, LABELS, tiny

TEXTS = ["小米手机a1真好用，", "华为b22耳机", "不", "买了小米，华为。手机 abc 0123456789买了小米，华为。手机 abc"]
FRESH = """
import json, sys, torch
from pathlib import Path
from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint, fingerprint

torch.set_num_threads(1)
folders, texts = map(json.loads, sys.argv[1:])
found = {}
for folder in map(Path, folders):
    checkpoint = Checkpoint.load(folder)
    ids = torch.from_numpy(checkpoint.vocabulary.encode(texts[0])).long()[None]
    with torch.inference_mode():
        logits = checkpoint.tagger(ids, torch.ones_like(ids)).logits
    readings = Reader(checkpoint, device="cpu").read(texts)
    found[str(folder)] = {
        "logits": logits.flatten().view(torch.int32).tolist(),
        "spans": readings.spans(checkpoint.tagger.config.tag_set.labels),
        "fingerprint": fingerprint(folder, decoder="viterbi", dtype="float32"),
    }
print(json.dumps(found))
"""


def observe(checkpoint, folder):
    ids = torch.from_numpy(checkpoint.vocabulary.encode(TEXTS[0])).long()[None]
    with torch.inference_mode():
        logits = checkpoint.tagger(ids, torch.ones_like(ids)).logits
    return {
        "logits": logits.flatten().view(torch.int32).tolist(),  # bit by bit
        "spans": Reader(checkpoint, device="cpu").read(TEXTS).spans(checkpoint.tagger.config.tag_set.labels),
        "fingerprint": fingerprint(folder, decoder="viterbi", dtype="float32"),
    }


def test_a_fresh_process_reads_the_same(tmp_path):
    expected = {}
    for architecture in ARCHITECTURES:
        for dtype in (torch.float32, torch.float16):
            folder = tmp_path / f"{architecture}-{dtype}"
            checkpoint = tiny(architecture, bidirectional=dtype == torch.float32)
            before = {name: tensor.clone() for name, tensor in checkpoint.tagger.state_dict().items()}
            checkpoint.save(folder, dtype)
            assert all(torch.equal(before[name], t) for name, t in checkpoint.tagger.state_dict().items())
            if dtype == torch.float16:
                for parameter in checkpoint.tagger.parameters():
                    parameter.data = parameter.data.half().float()
            expected[str(folder)] = observe(checkpoint, folder)
    process = subprocess.run(
        [sys.executable, "-c", FRESH, json.dumps(list(expected)), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == json.loads(json.dumps(expected))
    assert any(spans for found in expected.values() for spans in found["spans"])


def test_half_precision_weights_are_rounded_once(tmp_path, checkpoint):
    checkpoint.save(tmp_path, torch.float16)
    loaded = Checkpoint.load(tmp_path)
    own = checkpoint.tagger.state_dict()
    assert loaded.tagger.state_dict().keys() == own.keys()
    for name, tensor in loaded.tagger.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, own[name].half().float()), name
    assert not loaded.tagger.training
    assert loaded.vocabulary == checkpoint.vocabulary
    assert loaded.tagger.config.tag_set == checkpoint.tagger.config.tag_set
    assert (tmp_path / WEIGHTS).stat().st_size < 2 * sum(t.numel() for t in own.values()) + 10_000


def edit(folder, **values: object):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tiny().save(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_the_fingerprint_is_that_of_the_content(saved, folder):
    def of(path, decoder="viterbi", dtype="float32"):
        return fingerprint(path, decoder=decoder, dtype=dtype)

    original = of(saved)
    assert len(bytes.fromhex(original)) == 16
    assert of(folder) == original
    edit(folder, transformers_version="0.0.0", _name_or_path="/elsewhere")
    assert of(folder) == original
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(dict(reversed(config.items())), indent=7))
    assert of(folder) == original
    seen = {original, of(folder, decoder="beam"), of(folder, dtype="bfloat16")}
    for key, value in {"window": 25, "overlap": 7, "tags": [], "scheme": "BILOU", "bidirectional": False}.items():
        edit(folder, **{key: value})
        seen.add(of(folder))
        edit(folder, **{key: config[key]})
    for name in (WEIGHTS, VOCABULARY):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        seen.add(of(folder))
        (folder / name).write_bytes(content)
    assert len(seen) == 3 + 5 + 2
    assert of(folder) == original


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, VOCABULARY])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"is not a model folder: expected {name} in it"):
        Checkpoint.load(folder)
    with pytest.raises(ModelError, match=f"is not a model folder: expected {name} in it"):
        fingerprint(folder, decoder="viterbi", dtype="float32")


def test_pickled_weights_are_never_read(folder):
    state = tiny().tagger.state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=f"expected {WEIGHTS}"):
        Checkpoint.load(folder)
    with pytest.raises(ModelError, match=r"expected config\.json, model\.safetensors, vocab\.txt in it"):
        Checkpoint.load(folder / "nowhere")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"experts": 5}, r"mismatched_keys.*branch\.moe\.up.*4, 16, 8.*5, 16, 8"),
        ({"tags": ["O", "B-X", "I-X"]}, "mismatched_keys.*branch_classifier"),
        ({"architecture": "bert-crf"}, r"unexpected_keys.*branch\.adapter"),
        ({"skip": False}, r"unexpected_keys.*encoder_classifier"),
        ({"architecture": "lstm"}, "'hybrid', 'bert-crf'"),
        ({"experts_per_token": 9}, "expected 1 to 4"),
        ({"experts": 0}, r"unexpected_keys.*branch\.moe"),
        ({"temperatures": {"XH": 0.0}}, "expected positive ones of the labels"),
        ({"temperatures": {"OTHER": 1.0}}, "expected positive ones of the labels"),
        ({"temperatures": {"XH": "warm"}}, "temperatures"),
        ({"head": "mean"}, "'crf', 'softmax'"),
        ({"tags": ["O", "B-X"]}, "not a BIO set"),
        ({"window": "x"}, "expected int"),
        ({"encoder": {"model_type": "nonesuch"}}, "nonesuch"),
    ],
)
def test_weights_that_do_not_fit_their_config_are_refused(folder, values, named):
    edit(folder, **values)
    with pytest.raises(ModelError, match=named):
        Checkpoint.load(folder)


def test_missing_weights_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    edit(folder, encoder=config["encoder"] | {"num_hidden_layers": 2})
    with pytest.raises(ModelError, match=r"missing_keys.*encoder\.layer\.1.*export the model again"):
        Checkpoint.load(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (WEIGHTS, b""),
        (WEIGHTS, b"\x10\0\0\0\0\0\0\0{"),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        (VOCABULARY, b"\xff\xfe"),
        (VOCABULARY, b"a\nb\n"),
        (VOCABULARY, b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n"),
    ],
)
def test_broken_files_are_refused(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=str(folder)):
        Checkpoint.load(folder)


def bert_folder(folder, tokens, **special: str):
    """A folder as transformers saves it, of an encoder whose vocabulary has fewer tokens than it has rows."""
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(tokens) + 3, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=42,
    )  # fmt: skip
    bert = BertModel(config)
    bert.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False} | special
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return bert


def test_an_encoder_and_a_decoder_are_taken_from_their_folders(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"小米a华"]
    bert = bert_folder(tmp_path / "bert", tokens)
    config = Qwen2Config(
        vocab_size=7, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    qwen = Qwen2Model(config)
    qwen.save_pretrained(tmp_path / "qwen")
    tag_set = TagSet.from_labels(["X"])
    built = build(
        tag_set, encoder=str(tmp_path / "bert"), encoder_layers=2, decoder=str(tmp_path / "qwen"), expert_size=8
    )
    assert built.vocabulary.tokens == (*tokens, WHITE_SPACE)
    assert built.vocabulary.encode("小 b").tolist() == [5, len(tokens), 1]
    assert (built.tagger.config.window, built.tagger.config.overlap) == (40, 10)
    own, given = built.tagger.encoder.state_dict(), bert.state_dict()
    assert not [name for name in own if "layer.2." in name]
    assert [name for name in own if "layer.1." in name]
    for name, tensor in own.items():
        assert torch.equal(tensor, given[name][: len(tensor)]), name
    for name, tensor in built.tagger.branch.decoder.state_dict().items():
        assert torch.equal(tensor, qwen.state_dict()[name]), name
    built.save(tmp_path / "tagger")
    assert Checkpoint.load(tmp_path / "tagger").vocabulary == built.vocabulary


def test_white_space_gets_a_row_of_its_own(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    bert = bert_folder(tmp_path / "bert", tokens)
    bert.resize_token_embeddings(len(tokens))
    bert.save_pretrained(tmp_path / "bert")
    built = build(TagSet.from_labels(["X"]), encoder=str(tmp_path / "bert"))
    rows = built.tagger.get_input_embeddings().weight
    assert rows.shape == (len(tokens) + 1, 16)
    assert torch.equal(rows[:-1], bert.get_input_embeddings().weight)
    assert rows[-1].any()
    assert built.tagger.branch is None


def test_special_tokens_of_other_names_survive_the_folder(tmp_path):
    names = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    bert_folder(tmp_path / "bert", [*names.values(), "a"], **names)
    built = build(TagSet.from_labels(["X"]), encoder=str(tmp_path / "bert"))
    config = built.tagger.config
    assert (config.cls_token_id, config.pad_token_id, config.sep_token_id) == (0, 1, 2)
    built.save(tmp_path / "tagger")
    loaded = Checkpoint.load(tmp_path / "tagger").vocabulary
    assert loaded == built.vocabulary
    assert loaded.encode("a!").tolist() == [4, 3]


def test_configs_given_are_left_as_they_are(tmp_path):
    decoder = decoder_config(size=16, layers=1, heads=2)
    before = decoder.to_dict()
    tiny(decoder=decoder, bidirectional=False)
    assert decoder.to_dict() == before


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(ModelError, match="no model at '/nowhere': expected a folder or a hub name"):
        build(
            TagSet.from_labels(["X"]), encoder="/nowhere", vocabulary=Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]"))
        )


@pytest.mark.parametrize("tag_set", [TagSet.from_labels(["NEW"]), TagSet.from_labels(LABELS, "BILOU")])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_other_tags_get_new_heads_on_the_same_body(architecture, tag_set):
    base = tiny(architecture, bidirectional=False, window=20)
    found = base.with_tags(tag_set)
    assert found.tagger.config.tag_set == tag_set
    assert found.vocabulary == base.vocabulary
    for name in ("architecture", "bidirectional", "window", "experts", "skip"):
        assert getattr(found.tagger.config, name) == getattr(base.tagger.config, name)
    assert found.tagger.state_dict().keys() == base.tagger.state_dict().keys()
    for name, tensor in base.tagger.state_dict().items():
        if name.startswith(("encoder_classifier.", "branch_classifier.", "crf.")):
            assert len(found.tagger.state_dict()[name]) == len(tag_set.tags)
            assert found.tagger.state_dict()[name].isfinite().all()
        else:
            assert torch.equal(tensor, found.tagger.state_dict()[name]), name


def test_the_same_tags_change_nothing(checkpoint):
    assert checkpoint.with_tags(checkpoint.tagger.config.tag_set) is checkpoint


def test_temperatures_are_kept_in_the_folder(tmp_path):
    given = {"HPPX": 1.25, "XH": 0.5}
    tiny(temperatures=given).save(tmp_path / "tempered")
    assert Checkpoint.load(tmp_path / "tempered").tagger.config.temperatures == given
    tiny().save(tmp_path / "plain")
    assert Checkpoint.load(tmp_path / "plain").tagger.config.temperatures is None
    said = {fingerprint(tmp_path / name, decoder="viterbi", dtype="float32") for name in ("tempered", "plain")}
    assert len(said) == 2  # what is read with them is another reading


def test_other_tags_have_no_temperatures_yet():
    base = tiny(temperatures={"XH": 2.0})
    for tag_set in (TagSet.from_labels(["NEW"]), TagSet.from_labels([*LABELS, "NEW"])):
        assert base.with_tags(tag_set).tagger.config.temperatures is None
    assert base.with_tags(TagSet.from_labels(LABELS)).tagger.config.temperatures == {"XH": 2.0}
    assert base.tagger.config.temperatures == {"XH": 2.0}


@pytest.mark.parametrize("options", [{"head": "softmax"}, {"experts": 0}])
def test_other_heads_and_no_experts_are_loaded_as_saved(tmp_path, options):
    base = tiny(**options)
    base.save(tmp_path)
    loaded = Checkpoint.load(tmp_path).tagger
    assert loaded.state_dict().keys() == base.tagger.state_dict().keys()
    assert all(torch.equal(tensor, base.tagger.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.crf.transitions.any() == ("head" not in options)
    other = base.with_tags(TagSet.from_labels(["NEW"])).tagger
    assert other.crf.transitions.any() == ("head" not in options)
    assert (other.branch.moe is None) == ("experts" in options)
