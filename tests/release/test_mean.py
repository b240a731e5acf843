"""The mean of weights, and what cannot be averaged."""

import pytest
import torch

from tests.release.mean import mean
from tests.tiny import tiny


@torch.no_grad()
def test_each_weight_is_the_mean_of_those_of_the_models():
    models = [tiny(seed=seed) for seed in range(3)]
    own = [dict(model.tagger.named_parameters()) for model in models]
    expected = {name: sum(weights[name].clone() for weights in own) / 3 for name in own[0]}
    found = mean(models).tagger
    for name, parameter in found.named_parameters():
        torch.testing.assert_close(parameter, expected[name])
    assert not torch.equal(found.crf.transitions, tiny().tagger.crf.transitions)


def test_models_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="differ in more than their weights"):
        mean([tiny(), tiny("bert-crf")])
