"""Low-rank adapters on a tagger's attention projections, by peft; what stands beside them is trained in full.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models": W + (alpha / r) B A, with W frozen.
"""

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor

from ecner.config import LoraSettings
from ecner.errors import ModelError, UsageError
from ecner.model.tagger import Tagger

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# The projections by the names of BERT and its kin, and by those of Qwen2.
_ENCODER = {
    "query": r"attention\.self\.query",
    "key": r"attention\.self\.key",
    "value": r"attention\.self\.value",
    "output": r"attention\.output\.dense",
}
_DECODER = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
_ENCODER_LAYER, _DECODER_LAYER = r"encoder\.encoder\.layer", r"branch\.decoder\.layers"


def add_lora(tagger: Tagger, settings: LoraSettings, *, new: Collection[str] = ()) -> PeftModel:
    """Puts adapters into a tagger, in place, and freezes the rest but for classifiers, adapter layer, CRF and MoE.

    Args:
        tagger: the base, with its own tags.
        settings: rank, projections and layers; ``moe`` chooses whether the experts are trained or frozen.
        new: parts of the branch without pretrained weights (``moe``, ``decoder``), which are trained in full.

    Raises:
        UsageError: a layer that the tagger does not have, or an encoder whose projections have other names.
    """
    layers = _layers(tagger, settings, new)
    patterns = [
        rf"{path}\.({'|'.join(map(str, chosen))})\.{module}"
        for path, chosen, module in (
            (_ENCODER_LAYER, layers["encoder"], f"({'|'.join(_ENCODER[p] for p in settings.projections)})"),
            (_DECODER_LAYER, layers["decoder"], rf"self_attn\.({'|'.join(_DECODER[p] for p in settings.projections)})"),
        )
        if chosen
    ]
    if not patterns:
        raise UsageError("train.lora names no layer at all: name some, or train in full with train.method: full")
    config = LoraConfig(
        task_type=None,
        r=settings.r,
        lora_alpha=cast("int", settings.alpha),
        lora_dropout=settings.dropout,
        target_modules="|".join(patterns),
        modules_to_save=_trained_in_full(tagger, settings, new),
    )
    try:
        model = _with_adapters(tagger, config)
    except ValueError as error:
        raise UsageError(f"the encoder has no attention projections named as BERT's: {error}") from error
    _check_counts(tagger, {part: len(chosen) * len(settings.projections) for part, chosen in layers.items()})
    return model


def adapted(tagger: Tagger) -> dict[str, int]:
    """How many modules of the encoder and of the decoder carry an adapter."""
    names = [name for name, module in tagger.named_modules() if isinstance(module, LoraLayer)]
    paths = {"encoder": _ENCODER_LAYER, "decoder": _DECODER_LAYER}
    return {part: sum(bool(re.match(path, name)) for name in names) for part, path in paths.items()}


def save_lora(
    model: PeftModel, folder: Path, *, base: str, dtype: torch.dtype, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Writes the adapter alone: its weights (safetensors) and its config, with the base by its name.

    ``weights`` stand for the model's own, where these lie spread over several processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = get_peft_model_state_dict(model, state_dict=weights)
    state = {name: tensor.to(dtype).contiguous() for name, tensor in own.items()}
    save_file(state, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = model.peft_config["default"]
    path, config.base_model_name_or_path, config.inference_mode = config.base_model_name_or_path, base, True
    config.save_pretrained(str(folder))
    config.base_model_name_or_path, config.inference_mode = path, False


def load_lora(tagger: Tagger, folder: Path, *, merge: bool) -> Tagger:
    """A base with the adapter of a folder, merged into its weights or beside them.

    Raises:
        ModelError: the adapter does not fit the base.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():  # peft would look for a pickle
        raise ModelError(f"{folder} holds no {ADAPTER_WEIGHTS}: put back the whole folder from a copy")
    config: Any = LoraConfig.from_pretrained(str(folder))
    tagger.name_or_path = config.base_model_name_or_path  # where it lies is not what it is called
    model: Any = _with_adapters(tagger, config)
    result = model.load_adapter(str(folder), "default", torch_device="cpu", autocast_adapter_dtype=False)
    missing = [name for name in result.missing_keys if "lora_" in name or ".modules_to_save." in name]
    if missing or result.unexpected_keys:
        raise ModelError(
            f"the adapter in {folder} does not fit its base: missing {missing}, unexpected {result.unexpected_keys}; "
            "put back the folder that it was trained on"
        )
    return cast("Tagger", (model.merge_and_unload() if merge else model.base_model.model).eval())


def _with_adapters(tagger: Tagger, config: LoraConfig) -> PeftModel:
    with warnings.catch_warnings():  # peft asks transformers for a property by its former name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return cast("PeftModel", get_peft_model(tagger, config))


def _layers(tagger: Tagger, settings: LoraSettings, new: Collection[str]) -> dict[str, Sequence[int]]:
    """The layers to adapt in each part; a new decoder has none, as all of it is trained."""
    config = tagger.config
    counts = {"encoder": config.encoder.num_hidden_layers, "decoder": 0}
    if tagger.branch is not None and "decoder" not in new:
        counts["decoder"] = config.decoder.num_hidden_layers
    wanted = {"encoder": settings.encoder_layers, "decoder": settings.decoder_layers}
    chosen: dict[str, Sequence[int]] = {}
    for part, count in counts.items():
        asked = wanted[part]
        if asked is not None and count and (beyond := [layer for layer in asked if layer >= count]):
            raise UsageError(
                f"train.lora.{part}_layers names {', '.join(map(str, beyond))}: expected 0 to {count - 1}, "
                f"the layers of the {part}"
            )
        chosen[part] = sorted(set(range(count) if asked is None else asked)) if count else []
    return chosen


def _trained_in_full(tagger: Tagger, settings: LoraSettings, new: Collection[str]) -> list[str]:
    """Modules that are trained and saved whole, by the last part of their names."""
    parts = ["encoder_classifier", "branch_classifier", *(["crf"] if tagger.config.head == "crf" else [])]
    if tagger.branch is not None:
        parts.append("adapter")
        parts += [part for part in ("moe", "decoder") if part in new or (part == "moe" and settings.moe)]
    return [part for part in parts if part in {name.rsplit(".", 1)[-1] for name, _ in tagger.named_modules()}]


def _check_counts(tagger: Tagger, expected: dict[str, int]) -> None:
    """A pattern that matches too little, or the wrong submodule, is otherwise silent (peft #2155, #2165)."""
    found = adapted(tagger)
    if found != expected:
        raise UsageError(
            f"adapters went into {found} modules, expected {expected}: the encoder's projections are not named as "
            "BERT's; train in full with train.method: full"
        )
