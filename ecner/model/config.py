"""The composed configuration of a tagger: the encoder's and the decoder's own configs inside one."""

from math import inf
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from ecner.labels import Scheme, TagSet


@strict
class TaggerConfig(PreTrainedConfig):  # type: ignore[no-untyped-call] # of transformers' __init_subclass__
    """Everything that fixes a tagger but its weights.

    ``architecture`` chooses between ``hybrid`` (encoder, adapter, MoE, decoder, CRF) and ``bert-crf``
    (encoder, CRF); the latter leaves the decoder and the experts out. ``encoder`` and ``decoder`` are configs
    of their own classes, or their dicts. ``window`` is the most characters read at once, ``overlap`` how many
    of them two neighbouring windows of a longer text share. ``experts`` of 0 leaves the MoE out. A ``softmax`` head
    learns each character's tag by itself; the CRF then only keeps its paths legal, with transitions that stay zero.
    ``temperatures`` divide the log-odds of the mentions of a label, so that its confidences come true; a label that is
    not there keeps the CRF's own posterior.
    """

    model_type = "ecner-tagger"
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "encoder": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "decoder": SubConfigSpec(config_class=AutoConfig, model_type="qwen2"),
    }

    encoder: Any = None
    decoder: Any = None
    architecture: Literal["hybrid", "bert-crf"] = "hybrid"
    tags: list[str] | tuple[str, ...] = ("O", "B-X", "I-X")
    scheme: Literal["BIO", "BILOU"] = "BIO"
    bidirectional: bool = True
    skip: bool = True
    head: Literal["crf", "softmax"] = "crf"
    experts: int = 8
    experts_per_token: int = 2
    expert_size: int = 512
    balance_weight: float = 0.01
    z_weight: float = 0.001
    dropout: float = 0.1
    temperatures: dict[str, float] | None = None
    window: int = 510
    overlap: int = 128
    cls_token_id: int = 2
    sep_token_id: int = 3
    pad_token_id: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        """Validates what the fields' types cannot say.

        Raises:
            ValueError: more experts a token than there are, windows that cannot overlap, or impossible temperatures.
        """
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(f"experts_per_token is {self.experts_per_token}: expected 1 to {self.experts} (experts)")
        labels, given = self.tag_set.labels, self.temperatures or {}
        if wrong := {label: t for label, t in given.items() if label not in labels or not 0 < t < inf}:
            raise ValueError(f"temperatures has {wrong}: expected positive ones of the labels {', '.join(labels)}")
        if not 0 <= self.overlap < self.window:
            raise ValueError(f"overlap is {self.overlap}: expected 0 to under {self.window} (window)")

    @property
    def tag_set(self) -> TagSet:
        """The tags and their scheme."""
        scheme: Scheme = self.scheme
        return TagSet(tuple(self.tags), scheme)
