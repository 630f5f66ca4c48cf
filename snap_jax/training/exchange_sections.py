"""The sections of `result.json` with the share that an exchange after local steps has in one step."""

import math
from collections.abc import Mapping

from snap_jax.traffic import Traffic
from snap_jax.training.config import Settings
from snap_jax.training.result_json import cost_section

_ADDED = ("energy_j_per_step", "latency_s_per_step", "serialization_s_per_step")


def sections_with_exchange(sections: dict, exchange: Traffic, mesh: Mapping[str, int], config: Settings) -> dict:
    """Return the sections `wire` and `cost` with the exchanges of a run of all its steps."""
    per_step = math.ceil(config.steps / (config.local_steps or 1)) / config.steps
    return {
        "wire": with_exchange(sections["wire"], exchange, per_step),
        "cost": costs_with_exchange(sections["cost"], exchange, mesh, per_step),
    }


def with_exchange(wire: dict, exchange: Traffic, per_step: float) -> dict:
    """Return the section `wire` with the bytes of exchanges, as part of the backward pass.

    Args:
      wire: of a step without exchange.
      exchange: what one moves.
      per_step: exchanges divided by steps.
    """
    share = exchange.sent_bytes * per_step

    def row(found: dict) -> dict:
        return found | {"backward_bytes": round(share)} if found["path"] == "gradients of replicas" else found

    return wire | {
        "backward_bytes_per_step": wire["backward_bytes_per_step"] + round(share),
        "gradient_bytes_per_step": wire["gradient_bytes_per_step"] + round(share),
        "by_boundary": [row(found) for found in wire["by_boundary"]],
        "exchange": {"bytes": exchange.sent_bytes, "per_step": per_step, "bytes_per_step": share},
    }


def costs_with_exchange(costs: dict, exchange: Traffic, mesh: Mapping[str, int], per_step: float) -> dict:
    """Return the section `cost` with the share of an exchange in each sum; null stays null."""
    extra = cost_section(exchange, mesh)

    def added(name: str, system: str) -> list[float] | None:
        return _sum(costs[system].get(name), extra[system][name.removeprefix("sent_")], per_step)

    def parts(system: str) -> dict:
        """An exchange is part of the gradients."""
        found = costs[system]["parts"]
        alone = {name: extra[system][name] for name in ("energy_j_per_step", "latency_s_per_step")}
        before = found.get("gradients", {name: [0.0, 0.0] for name in alone})
        both = {name: _sum(before[name], alone[name], per_step) for name in alone}
        return found | {"gradients": both}

    def of(system: str) -> dict:
        names = [name for name in costs[system] if name.removeprefix("sent_") in _ADDED]
        return costs[system] | {name: added(name, system) for name in names} | {"parts": parts(system)}

    return {system: of(system) for system in costs}


def _sum(one: list[float] | None, other: list[float] | None, share: float) -> list[float] | None:
    return None if one is None or other is None else [a + share * b for a, b in zip(one, other, strict=True)]
