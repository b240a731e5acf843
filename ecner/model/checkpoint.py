"""Model folders: built from pretrained parts, saved as safetensors, loaded with their vocabulary.

A folder is whole (config, weights, vocabulary) or an adapter to the folder beside it that its version.json names.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, PreTrainedConfig, Qwen2Config

from ecner.errors import ModelError
from ecner.labels import TagSet
from ecner.model.config import TaggerConfig
from ecner.model.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, load_lora
from ecner.model.manifest import identity, is_version_name, verify
from ecner.model.tagger import Tagger
from ecner.model.vocabulary import END, PAD, START, UNKNOWN, WHITE_SPACE, Vocabulary

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
VOCABULARY = "vocab.txt"
VERSION = "version.json"
STORED = torch.float16  # of weights that are kept; they are trained, and on a CPU read, in float32
_POSITIONS_FROM_2 = {"roberta", "xlm-roberta", "camembert", "roberta-prelayernorm"}
_UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError, StrictDataclassError)


@dataclass(frozen=True)
class Checkpoint:
    """A tagger with all that is needed to read with it."""

    tagger: Tagger
    vocabulary: Vocabulary

    def save(
        self, folder: Path, dtype: torch.dtype = torch.float32, *, weights: Mapping[str, Tensor] | None = None
    ) -> None:
        """Writes config, weights (safetensors, in ``dtype``) and vocabulary. Leaves the tagger as it is.

        ``weights`` stand for the tagger's own, where these lie spread over several processes.
        """
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.to(dtype) for name, tensor in (weights or self.tagger.state_dict()).items()}
        self.tagger.save_pretrained(folder, state_dict=state)
        self.vocabulary.write(folder / VOCABULARY)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32) -> "Checkpoint":
        """The checkpoint in a folder; safetensors alone, no pickle is ever read.

        Raises:
            ModelError: a file is missing or altered, or weights and config do not fit each other.
        """
        _require_files(folder)
        verify(folder)
        try:
            if is_adapter(folder):
                return _load_adapter(folder, dtype, merge=_version(folder)["merged"])
            return _load_whole(folder, dtype)
        except _UNREADABLE as error:
            raise ModelError(f"cannot load the model in {folder}: {error}; export the model again") from error

    def with_tags(self, tag_set: TagSet) -> "Checkpoint":
        """The same tagger for other tags: weights whose shape depends on the tags are new."""
        old = self.tagger
        if old.config.tag_set == tag_set:
            return self
        values = old.config.to_dict() | {"tags": list(tag_set.tags), "scheme": tag_set.scheme, "temperatures": None}
        tagger = Tagger(TaggerConfig.from_dict(values))
        heads = ("encoder_classifier.", "branch_classifier.", "crf.")
        kept = {name: tensor for name, tensor in old.state_dict().items() if not name.startswith(heads)}
        tagger.load_state_dict(tagger.state_dict() | kept)
        tagger.to(old.dtype)  # type: ignore[arg-type] # wrapped untyped
        return Checkpoint(tagger.eval(), self.vocabulary)  # type: ignore[no-untyped-call]


def load_adapted(folder: Path, *, merge: bool) -> Checkpoint:
    """An adapter's folder on its base, with the adapter merged into the weights or beside them.

    Raises:
        ModelError: a file is missing or altered, or adapter and base do not fit each other.
    """
    _require_files(folder)
    verify(folder)
    return _load_adapter(folder, torch.float32, merge=merge)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, which is read on its base."""
    return (folder / ADAPTER_CONFIG).is_file()


def base_name(folder: Path) -> str:
    """The name of an adapter's base, which lies beside it.

    Raises:
        ModelError: version.json tells none, or one that would lead elsewhere.
    """
    try:
        name = str(_version(folder)["base"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / VERSION} does not tell the adapter's base: {error}; export it again") from error
    if not is_version_name(name):
        raise ModelError(f"{folder / VERSION} has {name!r} as its base: expected the name of a folder beside {folder}")
    return name


def base_of(folder: Path) -> Path:
    """The folder of an adapter's base.

    Raises:
        ModelError: it is gone, or another than the adapter was trained on.
    """
    base = folder.resolve().parent / base_name(folder)
    digest = identity(base)
    if digest is None or not base.name.endswith(f"-{digest}"):
        found = "is gone" if digest is None else "is another than it was"
        raise ModelError(
            f"{base.name}, the base of {folder.name}, {found}: put back the whole folder {base} from a copy"
        )
    return base


def fingerprint(folder: Path, *, decoder: str, dtype: str) -> str:
    """What readings depend on: weights, tags, windows, vocabulary, decoder and dtype. 32 hex digits.

    Raises:
        ModelError: a file is missing or altered.
    """
    digest = hashlib.sha256(f"{decoder}\0{dtype}\0".encode())
    for content in _contents(folder):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:32]


def _contents(folder: Path) -> tuple[bytes, ...]:
    """What a model says by: an adapter's own files, on top of those of its base."""
    _require_files(folder)
    verify(folder)
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        for name in ("transformers_version", "_name_or_path"):  # no part of what the model says
            config.pop(name, None)
        settled = json.dumps(config, sort_keys=True).encode()
        if not is_adapter(folder):
            return (folder / WEIGHTS).read_bytes(), settled, (folder / VOCABULARY).read_bytes()
        merged = str(_version(folder)["merged"]).encode()
        own = (folder / ADAPTER_WEIGHTS).read_bytes(), (folder / ADAPTER_CONFIG).read_bytes(), settled, merged
        return (*own, *_contents(base_of(folder)))
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"the files in {folder} cannot be read: {error}; export the model again") from error


def _version(folder: Path) -> dict[str, Any]:
    """What an adapter's folder says of it."""
    values: dict[str, Any] = json.loads((folder / VERSION).read_text("utf-8"))
    return values


def _require_files(folder: Path) -> None:
    needed = [CONFIG, ADAPTER_WEIGHTS, VERSION] if is_adapter(folder) else [CONFIG, WEIGHTS, VOCABULARY]
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise ModelError(f"{folder} is not a model folder: expected {', '.join(missing)} in it")


def _load_whole(folder: Path, dtype: torch.dtype) -> Checkpoint:
    loaded: Any = Tagger.from_pretrained(
        folder,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # told below, with all else that does not fit
        output_loading_info=True,
    )
    vocabulary = Vocabulary.read(folder / VOCABULARY)
    tagger, info = loaded
    problems = {kind: sorted(names) for kind, names in info.items() if names}
    if len(vocabulary.tokens) != tagger.config.encoder.vocab_size:
        problems["vocabulary"] = [f"{len(vocabulary.tokens)} tokens, {tagger.config.encoder.vocab_size} expected"]
    if problems:
        raise ModelError(f"the files in {folder} do not fit each other: {problems}; export the model again")
    return Checkpoint(tagger.eval(), vocabulary)


def _load_adapter(folder: Path, dtype: torch.dtype, *, merge: bool) -> Checkpoint:
    config = TaggerConfig.from_pretrained(folder, local_files_only=True)
    base = Checkpoint.load(base_of(folder), dtype).with_tags(config.tag_set)
    base.tagger.config.temperatures = config.temperatures
    return Checkpoint(load_lora(base.tagger, folder, merge=merge), base.vocabulary)


def build(
    tag_set: TagSet,
    *,
    encoder: str | PreTrainedConfig,
    encoder_layers: int | None = None,
    attention_dropout: float = 0.0,
    decoder: str | PreTrainedConfig | None = None,
    vocabulary: Vocabulary | None = None,
    zero_branch: bool = False,
    **options: Any,
) -> Checkpoint:
    """A new tagger around a BERT-like encoder and a Qwen2 decoder.

    Args:
        tag_set: tags of the classifier and the CRF.
        encoder: a folder or hub name, whose weights and vocabulary are taken, or a config (random weights).
        encoder_layers: how many of the encoder's first layers are kept; all by default.
        attention_dropout: the encoder's, on attention weights.
        decoder: the same for the decoder; ``None`` for BERT-CRF.
        vocabulary: needed with an encoder config; else the encoder's own.
        zero_branch: the decoder's classifier starts at zero, so that the tagger starts as BERT-CRF.
        options: further fields of TaggerConfig.
    """
    encoder_config = _config(encoder)
    if encoder_layers is not None:
        encoder_config.num_hidden_layers = encoder_layers
    encoder_config.attention_probs_dropout_prob = attention_dropout
    vocabulary = vocabulary or encoder_vocabulary(str(encoder))
    encoder_config.vocab_size = len(vocabulary.tokens)
    offset = 2 if encoder_config.model_type in _POSITIONS_FROM_2 else 0
    longest = encoder_config.max_position_embeddings - 2 - offset
    options = {"window": longest, "overlap": min(128, longest // 4)} | options
    tagger = Tagger(
        TaggerConfig(
            encoder=encoder_config.to_dict(),
            decoder=_config(decoder).to_dict() if decoder is not None else None,
            architecture="bert-crf" if decoder is None else "hybrid",
            tags=list(tag_set.tags),
            scheme=tag_set.scheme,
            cls_token_id=vocabulary.ids[START],
            sep_token_id=vocabulary.ids[END],
            pad_token_id=vocabulary.ids[PAD],
            **options,
        )
    )
    if isinstance(encoder, str):
        _take_weights(tagger.encoder, encoder)
    if isinstance(decoder, str) and tagger.branch is not None:
        _take_weights(tagger.branch.decoder, decoder)
    if zero_branch and tagger.branch is not None:
        for parameter in tagger.branch_classifier.parameters():
            torch.nn.init.zeros_(parameter)
    return Checkpoint(tagger, vocabulary)


def decoder_config(*, size: int, layers: int, heads: int, window: int = 512) -> Qwen2Config:
    """A Qwen2 of given sizes for ``build``; its feed-forward is twice as wide as its states."""
    return Qwen2Config(
        vocab_size=1, hidden_size=size, intermediate_size=2 * size, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=window,
    )  # fmt: skip


def encoder_config(*, size: int, layers: int, heads: int, positions: int = 512) -> BertConfig:
    """A BERT of given sizes for ``build``."""
    return BertConfig(
        hidden_size=size, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * size,
        max_position_embeddings=positions,
    )  # fmt: skip


def _config(part: str | PreTrainedConfig) -> PreTrainedConfig:
    """A part's config; given as a folder or hub name, it is read from there."""
    if isinstance(part, PreTrainedConfig):
        return copy.deepcopy(part)  # it will be changed
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(part)
    except (OSError, ValueError) as error:
        raise ModelError(f"no model at {part!r}: expected a folder or a hub name ({error})") from error
    config.dtype = None  # how its weights were stored; a part is trained in the tagger's dtype
    config._name_or_path = ""  # noqa: SLF001 - where it lay on this machine, which a saved model need not tell
    return config


def encoder_vocabulary(encoder: str) -> Vocabulary:
    """An encoder's own vocabulary, with an entry behind it for white space, which its tokenizer drops."""
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    special = {
        tokenizer.pad_token: PAD,
        tokenizer.unk_token: UNKNOWN,
        tokenizer.cls_token: START,
        tokenizer.sep_token: END,
    }
    by_id = {i: special.get(token, token) for token, i in tokenizer.get_vocab().items()}
    tokens = (by_id.get(i, f"[unused-{i}]") for i in range(max(by_id) + 1))
    return Vocabulary((*tokens, WHITE_SPACE))


def _take_weights(part: nn.Module, source: str) -> None:
    """Copies pretrained weights into a part that may have fewer layers, other rows of tokens, or none."""
    given = AutoModel.from_pretrained(source, dtype=torch.float32).state_dict()
    own = part.state_dict()
    with torch.no_grad():
        for name, tensor in own.items():
            if name not in given:
                raise ModelError(f"{source} holds no weight {name}: expected one of shape {tuple(tensor.shape)}")
            rows = min(len(tensor), len(given[name]))
            tensor[:rows] = given[name][:rows]
