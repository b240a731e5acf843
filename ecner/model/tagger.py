"""The taggers: encoder -> adapter -> MoE -> Qwen2 -> classifier -> CRF, and encoder -> classifier -> CRF."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from ecner.model.config import TaggerConfig
from ecner.model.crf import CRF
from ecner.model.moe import RouterLosses, SparseMoE


@dataclass
class TaggerOutput(ModelOutput):
    """What a forward pass gives.

    ``loss`` is a scalar, present where labels were given; ``logits`` are the CRF's emissions, (B, T, K).
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


class Tagger(PreTrainedModel):  # type: ignore[no-untyped-call] # of transformers' __init_subclass__
    """A tagger of characters. One position per character; the special tokens around a text stay inside."""

    config_class = TaggerConfig
    base_model_prefix = "tagger"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ["BertLayer", "Qwen2DecoderLayer"]  # noqa: RUF012 - transformers' own name and type

    config: TaggerConfig

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__(config)
        tags = config.tag_set
        width = config.encoder.hidden_size
        self.encoder = AutoModel.from_config(config.encoder)  # type: ignore[no-untyped-call]
        self.encoder.pooler = None  # of no use to a tagger
        self.dropout = nn.Dropout(config.dropout)
        self.branch = HybridBranch(config) if config.architecture == "hybrid" else None
        if self.branch is None or config.skip:
            self.encoder_classifier = nn.Linear(width, len(tags.tags))
        if self.branch is not None:
            self.branch_classifier = nn.Linear(config.decoder.hidden_size, len(tags.tags))
        self.crf = CRF(legal_start=tags.legal_start, legal_end=tags.legal_end, legal_transitions=tags.legal_transitions)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's character embeddings."""
        embeddings: nn.Module = self.encoder.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the encoder's character embeddings."""
        self.encoder.set_input_embeddings(value)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> TaggerOutput:
        """Emissions of each character, and the loss where tags are given.

        The loss is the CRF's negative log-likelihood a character, plus the router's losses.

        *Shape:* input_ids, attention_mask (a prefix of each row) and labels (B, T), without special tokens.
        """
        mask = attention_mask.bool()
        encoded = self.dropout(self._encode(input_ids, mask))  # (B, T, D)
        if self.branch is None:
            logits, losses = _emissions(self.encoder_classifier, encoded), None
        else:
            decoded, losses = self.branch(encoded, mask)
            logits = _emissions(self.branch_classifier, self.dropout(decoded))
            if self.config.skip:
                logits = logits + _emissions(self.encoder_classifier, encoded)
        if labels is None:
            return TaggerOutput(logits=logits)
        loss = self._loss(logits, labels, mask)
        if losses is not None:
            loss = loss + self.config.balance_weight * losses.balance + self.config.z_weight * losses.z
        return TaggerOutput(loss=loss, logits=logits)

    def _loss(self, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood a character, a scalar: of the paths, or of each tag by itself.

        *Shape:* logits (B, T, K), labels and mask (B, T).
        """
        if self.config.head == "softmax":
            return functional.cross_entropy(logits[mask].float(), labels[mask])
        return -self.crf.log_likelihood(logits, labels, mask).sum() / mask.sum().clamp(min=1)

    def _encode(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Encoder states of the characters, read between the two special tokens.

        *Shape:* (B, T) to (B, T, D).
        """
        rows, length = input_ids.shape
        framed = input_ids.new_full((rows, length + 2), self.config.pad_token_id)  # (B, T + 2)
        framed[:, 0] = self.config.cls_token_id
        framed[:, 1:-1] = input_ids.where(mask, self.config.pad_token_id)
        ends = mask.sum(1, keepdim=True) + 1  # (B, 1)
        framed.scatter_(1, ends, self.config.sep_token_id)
        framed_mask = torch.arange(length + 2, device=mask.device) <= ends  # (B, T + 2)
        states: Tensor = self.encoder(input_ids=framed, attention_mask=framed_mask.long()).last_hidden_state
        return states[:, 1:-1]

    def _init_weights(self, module: nn.Module) -> None:
        """Initialises what no pretrained folder brings, in the way transformers guards loaded weights."""
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, SparseMoE):
            for weight in (module.up, module.down):
                init.normal_(weight, std=weight.shape[1] ** -0.5)
            for bias in (module.up_bias, module.down_bias):
                init.zeros_(bias)
        elif isinstance(module, CRF):
            is_used = self.config.head == "crf"
            for parameter in module.parameters(recurse=False):
                init.uniform_(parameter, -0.1, 0.1) if is_used else init.zeros_(parameter)


def _emissions(classifier: nn.Linear, states: Tensor) -> Tensor:
    """Scores of the tags, never in less than float32: a path's score is a sum over the whole text.

    *Shape:* states (B, T, D); returns (B, T, K).
    """
    wide = torch.promote_types(states.dtype, torch.float32)
    with torch.autocast(states.device.type, enabled=False):
        return functional.linear(states.to(wide), classifier.weight.to(wide), classifier.bias.to(wide))


class HybridBranch(nn.Module):
    """Adapter, experts and decoder: what the hybrid has over BERT-CRF."""

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        decoder = config.decoder
        # transformers' mask helpers keep the padding mask in both modes
        decoder.is_causal = not config.bidirectional
        decoder.use_cache = False
        self.adapter = nn.Linear(config.encoder.hidden_size, decoder.hidden_size)
        self.moe = None
        if config.experts:
            self.moe = SparseMoE(
                size=decoder.hidden_size,
                expert_size=config.expert_size,
                experts=config.experts,
                experts_per_token=config.experts_per_token,
            )
        self.decoder = AutoModel.from_config(decoder)  # type: ignore[no-untyped-call]
        self.decoder.embed_tokens = None  # it is fed embeddings; its own would be dead weight

    def forward(self, encoded: Tensor, mask: Tensor) -> tuple[Tensor, RouterLosses | None]:
        """Decoder states, and the router's losses where there are experts.

        *Shape:* encoded (B, T, D), mask (B, T) bool; returns (B, T, H).
        """
        mixed, losses = self.adapter(encoded), None
        if self.moe is not None:
            mixed, losses = self.moe(mixed, mask)
        output = self.decoder(inputs_embeds=mixed, attention_mask=mask.long())
        return output.last_hidden_state, losses
