import copy
from itertools import pairwise, product

import pytest
import torch
from torch import nn

from ecner.labels import Span, TagSet
from ecner.model.checkpoint import build, decoder_config, encoder_config
from ecner.model.tagger import HybridBranch
from tests.tiny import ARCHITECTURES, LABELS, VOCABULARY, tiny

TEXTS = ["小米手机a1真好用，", "华为b22耳机", "不", "买了小米，华为。手机 abc 0123456789", "真不错"]
MODES = [("hybrid", True), ("hybrid", False), ("bert-crf", True)]
LABELLED = [
    ("小米手机a1真好用", [Span(0, 2, "HPPX"), Span(4, 6, "XH")]),
    ("华为b22耳机", [Span(0, 2, "HPPX"), Span(2, 5, "XH")]),
    ("买了小", [Span(2, 3, "HPPX")]),
    ("a手机", [Span(0, 1, "XH")]),
    ("真不错", []),
    ("小米华为", [Span(0, 2, "HPPX"), Span(2, 4, "HPPX")]),
    ("用c3，d4", [Span(1, 3, "XH"), Span(4, 6, "XH")]),
    ("华为", [Span(0, 2, "HPPX")]),
]


def batch(texts, steps=0, tags=()):
    steps = max(steps, *map(len, texts))
    inputs = {
        "input_ids": torch.zeros(len(texts), steps, dtype=torch.long),
        "attention_mask": torch.zeros(len(texts), steps, dtype=torch.long),
    }
    for row, text in enumerate(texts):
        inputs["input_ids"][row, : len(text)] = torch.from_numpy(VOCABULARY.encode(text))
        inputs["attention_mask"][row, : len(text)] = 1
    if tags:
        inputs["labels"] = torch.full((len(texts), steps), -100)
        for row, ids in enumerate(tags):
            inputs["labels"][row, : len(ids)] = torch.tensor(ids)
    return inputs


def decode(tagger, inputs):
    mask = inputs["attention_mask"].bool()
    tags, _ = tagger.crf.viterbi(tagger(**inputs).logits, mask)
    return [row[m].tolist() for row, m in zip(tags, mask, strict=True)]


@pytest.mark.parametrize("steps", [0, 64])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("architecture", "bidirectional"), MODES)
@torch.no_grad()
def test_logits_do_not_depend_on_the_batch(architecture, bidirectional, dtype, tolerance, steps):
    tagger = tiny(architecture, bidirectional=bidirectional).tagger.to(dtype)
    together = batch(TEXTS, steps)
    logits, tags = tagger(**together).logits, decode(tagger, together)
    noisy = copy.deepcopy(together)
    noisy["input_ids"].masked_fill_(noisy["attention_mask"] == 0, 7)  # what stands at padding is not looked at
    for row, text in enumerate(TEXTS):
        alone = batch([text])
        found = tagger(**alone).logits[0]
        assert found.dtype == dtype
        assert (found - logits[row, : len(text)]).abs().max() <= tolerance
        assert (tagger(**noisy).logits[row, : len(text)] - found).abs().max() <= tolerance
        assert decode(tagger, alone) == [tags[row]]


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
@torch.no_grad()
def test_the_decoder_sees_what_follows_only_where_it_is_bidirectional(bidirectional, padding):
    branch = HybridBranch(tiny(bidirectional=bidirectional).tagger.config).double().eval()
    for module in branch.modules():  # made outside a tagger, its weights are not drawn yet
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.3)
    encoded = torch.randn(2, 9, 16, dtype=torch.float64)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 9 - padding :] = False
    changed = encoded.clone()
    changed[:, 5] += 1
    moved = (branch(changed, mask)[0] - branch(encoded, mask)[0]).abs().amax(-1)  # (B, T)
    assert (moved[:, 5:] > 1e-6)[mask[:, 5:]].all()
    assert (moved[:, :5] > 1e-6).all() if bidirectional else not moved[:, :5].any()


@pytest.mark.parametrize(("architecture", "bidirectional"), MODES)
def test_gradients_reach_every_parameter(architecture, bidirectional):
    tagger = tiny(architecture, bidirectional=bidirectional).tagger
    texts = [text for text, _ in LABELLED] * 3 + TEXTS
    tags = [tagger.config.tag_set.encode(spans, len(text)) for text, spans in LABELLED] * 3
    tags += [[0] * len(text) for text in TEXTS]
    tagger(**batch(texts, tags=tags)).loss.backward()
    for name, parameter in tagger.named_parameters():
        if name.endswith(("self.key.bias", "k_proj.bias")):
            continue  # a constant on all keys is lost in the softmax
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
        if ".moe." in name and "norm" not in name:
            assert parameter.grad.flatten(1).any(1).all(), f"{name}: an expert learns nothing"


def test_parts_that_are_not_used_are_not_there():
    names = {
        (architecture, skip): {
            name.split(".")[0] for name, _ in tiny(architecture, skip=skip).tagger.named_parameters()
        }
        for architecture in ARCHITECTURES
        for skip in (True, False)
    }
    common = {"encoder", "crf"}
    assert names["hybrid", True] == common | {"branch", "branch_classifier", "encoder_classifier"}
    assert names["hybrid", False] == common | {"branch", "branch_classifier"}
    assert names["bert-crf", True] == names["bert-crf", False] == common | {"encoder_classifier"}
    everything = [name for name, _ in tiny().tagger.named_parameters()]
    assert not [name for name in everything if "pooler" in name or "embed_tokens" in name]


@torch.no_grad()
def test_the_skip_path_adds_the_encoder_s_say():
    tagger = tiny(skip=True).tagger
    inputs = batch(TEXTS)
    tagger.encoder_classifier.weight.zero_()
    tagger.encoder_classifier.bias.copy_(torch.arange(5.0))
    with_skip = tagger(**inputs).logits
    tagger.encoder_classifier.bias.zero_()
    torch.testing.assert_close(with_skip, tagger(**inputs).logits + torch.arange(5.0))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_the_loss_is_per_character_and_leaves_padding_out(architecture):
    tagger = tiny(architecture, balance_weight=0.0, z_weight=0.0).tagger.double()
    tags = [tagger.config.tag_set.encode(spans, len(text)) for text, spans in LABELLED]
    texts = [text for text, _ in LABELLED]
    single = [tagger(**batch([x], tags=[y])).loss * len(x) for x, y in zip(texts, tags, strict=True)]
    for steps in (0, 40):
        torch.testing.assert_close(tagger(**batch(texts, steps, tags)).loss, sum(single) / sum(map(len, texts)))


@torch.no_grad()
def test_the_router_s_losses_are_weighted_in():
    inputs = batch(["小米", "华为b22"], tags=[[0, 0], [0] * 5])
    losses = {}
    for weights in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.25)]:
        losses[weights] = tiny(balance_weight=weights[0], z_weight=weights[1]).tagger(**inputs).loss
    balance, z = (losses[w] - losses[0.0, 0.0] for w in [(1.0, 0.0), (0.0, 1.0)])
    assert balance > 0.5
    assert z > 0
    torch.testing.assert_close(losses[0.5, 0.25] - losses[0.0, 0.0], 0.5 * balance + 0.25 * z)


@pytest.mark.parametrize("scheme", ["BIO", "BILOU"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_schemes_are_learnt_and_only_legal_paths_decoded(architecture, scheme):
    tag_set = TagSet.from_labels(LABELS, scheme)
    tagger = tiny(architecture, tag_set=tag_set).tagger
    texts = [text for text, _ in LABELLED]
    inputs = batch(texts, tags=[tag_set.encode(spans, len(text)) for text, spans in LABELLED])
    plain = {name: tensor for name, tensor in inputs.items() if name != "labels"}

    def spans():
        found = decode(tagger, plain)
        for path in found:
            assert tag_set.legal_start[path[0]]
            assert tag_set.legal_end[path[-1]]
            assert all(tag_set.legal_transitions[a][b] for a, b in pairwise(path))
        return [tag_set.decode(path) for path in found]

    expected = [spans for _, spans in LABELLED]
    assert spans() != expected
    optimizer = torch.optim.Adam(tagger.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = tagger(**inputs).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert spans() == expected


def test_embeddings_can_be_replaced():
    tagger = tiny().tagger
    embeddings = nn.Embedding(3, 16)
    tagger.set_input_embeddings(embeddings)
    assert tagger.get_input_embeddings() is embeddings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": 2, "experts_per_token": 3}, "experts_per_token is 3: expected 1 to 2"),
        ({"experts_per_token": 0}, "experts_per_token is 0"),
        ({"window": 8, "overlap": 8}, r"overlap is 8: expected 0 to under 8 \(window\)"),
        ({"temperatures": {"XH": 0.0}}, r"temperatures has \{'XH': 0.0\}: expected positive ones of the labels"),
        ({"temperatures": {"XH": -1.5, "HPPX": 1.0}}, r"temperatures has \{'XH': -1.5\}"),
        ({"temperatures": {"OTHER": 1.0}}, r"temperatures has \{'OTHER': 1.0\}: .* HPPX, XH"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def legal(tag_set, path):
    return (
        tag_set.legal_start[path[0]]
        and tag_set.legal_end[path[-1]]
        and all(tag_set.legal_transitions[a][b] for a, b in pairwise(path))
    )


def stepped(tagger, inputs, steps=5, rate=1e-2):
    """Trains on one batch; the loss before each step."""
    trained = [parameter for parameter in tagger.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = tagger(**inputs).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def labelled_batch(tagger):
    tags = [tagger.config.tag_set.encode(spans, len(text)) for text, spans in LABELLED]
    return batch([text for text, _ in LABELLED], tags=tags)


@pytest.mark.parametrize("scheme", ["BIO", "BILOU"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_softmax_head_learns_each_tag_by_itself_and_keeps_its_paths_legal(architecture, scheme):
    tag_set = TagSet.from_labels(LABELS, scheme)
    tagger = tiny(architecture, tag_set=tag_set, head="softmax", balance_weight=0.0, z_weight=0.0).tagger
    inputs = labelled_batch(tagger)
    output = tagger(**inputs)  # -100 at padding is cross_entropy's own mark
    expected = nn.functional.cross_entropy(output.logits.flatten(0, 1), inputs["labels"].flatten())
    torch.testing.assert_close(output.loss, expected)
    losses = stepped(tagger, inputs, steps=60)
    assert losses[-1] < 0.2 * losses[0]
    assert not any(parameter.any() for parameter in tagger.crf.parameters())
    plain = {name: tensor for name, tensor in inputs.items() if name != "labels"}
    paths = decode(tagger, plain)
    assert all(legal(tag_set, path) for path in paths)
    assert [tag_set.decode(path) for path in paths] == [spans for _, spans in LABELLED]


@torch.no_grad()
def test_a_softmax_heads_path_is_the_legal_one_of_the_likeliest_tags():
    tagger = tiny("bert-crf", head="softmax").tagger
    tag_set = tagger.config.tag_set
    inputs = batch(["小米手a", "华为b"])
    logits = tagger(**inputs).logits
    for row, (found, n) in enumerate(zip(decode(tagger, inputs), (4, 3), strict=True)):
        paths = [path for path in product(range(len(tag_set.tags)), repeat=n) if legal(tag_set, path)]
        scores = {path: sum(logits[row, i, tag].item() for i, tag in enumerate(path)) for path in paths}
        assert tuple(found) == max(scores, key=scores.get)


def test_a_crf_head_has_transitions_of_its_own():
    tagger = tiny("bert-crf").tagger
    before = tagger.crf.transitions.clone()
    stepped(tagger, labelled_batch(tagger), steps=1)
    assert before.any()
    assert not torch.equal(tagger.crf.transitions, before)


def test_without_experts_there_is_no_moe_and_no_router_loss():
    tagger = tiny(experts=0, balance_weight=100.0, z_weight=100.0).tagger
    assert tagger.branch.moe is None
    assert not [name for name, _ in tagger.named_parameters() if "moe" in name]
    inputs = labelled_batch(tagger)
    output = tagger(**inputs)
    mask = inputs["attention_mask"].bool()
    expected = -tagger.crf.log_likelihood(output.logits, inputs["labels"], mask).sum() / mask.sum()
    torch.testing.assert_close(output.loss, expected)
    losses = stepped(tagger, inputs, steps=30)
    assert losses[-1] < 0.5 * losses[0]


@torch.no_grad()
def test_a_branch_started_at_zero_leaves_the_emissions_of_bert_crf():
    checkpoint = build(
        TagSet.from_labels(LABELS),
        encoder=encoder_config(size=16, layers=1, heads=2, positions=66),
        decoder=decoder_config(size=16, layers=1, heads=2),
        vocabulary=VOCABULARY,
        zero_branch=True,
        experts=2,
        expert_size=8,
    )
    tagger = checkpoint.tagger.eval()
    inputs = batch(TEXTS)
    mask = inputs["attention_mask"].bool()
    alone = tagger.encoder_classifier(tagger._encode(inputs["input_ids"], mask))
    assert torch.equal(tagger(**inputs).logits[mask], alone[mask])
    with torch.enable_grad():  # and yet it learns
        stepped(tagger, labelled_batch(tagger), steps=3)
    alone = tagger.encoder_classifier(tagger._encode(inputs["input_ids"], mask))
    assert (tagger(**inputs).logits - alone)[mask].abs().max() > 1e-3
