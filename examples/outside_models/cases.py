"""Which models are run in which layouts, with which codec."""

from collections.abc import Callable, Sequence
from typing import Any

from examples.outside_models import experts, layouts, models, placed
from examples.outside_models.measure import reference, user_lines

BLOCKS = {  # the paths of the blocks of each model
    "llama3": "layers.*",
    "qwen3_moe": "layers.*",
    "mamba2": "backbone.layers.*",
    "vision_transformer": "encoder.layers.*",
    "gpt2": "h.*",
}
PACKAGES = {"llama3": "tunix", "qwen3": "tunix", "qwen3_moe": "tunix", "mamba2": "mamba2_jax"}
PACKAGES |= {"vision_transformer": "vitax", "gpt2": "transformers", "nano_moe": "nano_moe"}
RULES = {
    "llama3": placed.decoder_rules,
    "qwen3": placed.decoder_rules,
    "qwen3_moe": placed.mixture_rules,
    "vision_transformer": placed.vision_rules,
}


def all_layouts() -> dict[str, tuple[Sequence[str], Callable, Callable[[str], int], str]]:
    """Return by name: models; (model, optimizer, codec) -> program; model -> lines; and a codec."""
    data_lines = user_lines(layouts.functional, layouts.data_parallel)
    expert_lines = user_lines(experts.expert_parallel)
    return {
        "data": ((*BLOCKS, "nano_moe"), data_parallel, lambda _: data_lines, "ternary"),
        "pipeline": (tuple(BLOCKS), pipeline, lambda _: user_lines(placed.pipeline), "count:3:token"),
        "tensor": (
            tuple(RULES),
            tensor_parallel,
            lambda name: user_lines(placed.over_axis, RULES[name]),
            "count:7:token",
        ),
        "expert": (("qwen3_moe",), expert_parallel, lambda _: expert_lines, "count:7:token"),
    }


def data_parallel(name: str, optimizer: Any, codec: Any) -> layouts.Program:
    """Return the program of two replicas."""
    original = reference(name)
    return layouts.data_parallel(original.loss, original.params, optimizer, codec)


def pipeline(name: str, optimizer: Any, codec: Any) -> layouts.Program:
    """Return the program of two stages."""
    return layouts.train(*placed.pipeline(*models.build(name), BLOCKS[name], codec), optimizer)


def tensor_parallel(name: str, optimizer: Any, codec: Any) -> layouts.Program:
    """Return the program of two devices that share each layer."""
    return layouts.train(*placed.over_axis(*models.build(name), RULES[name](codec), "tensor"), optimizer)


def expert_parallel(name: str, optimizer: Any, codec: Any) -> layouts.Program:
    """Return the program of two devices that have half of the experts each."""
    model, loss, batch = models.build(name)
    run, params, whole = experts.expert_parallel(experts.routed(model), loss, batch, codec)
    return layouts.train(run, params, lambda params: experts.unrouted(whole(params)), optimizer)
