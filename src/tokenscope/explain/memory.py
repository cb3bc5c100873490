"""How much an attention picture takes, and the refusal before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tokenscope.backends.hf.attention_kernel import BLOCK_BYTES
from tokenscope.backends.hf.internals import Internals
from tokenscope.errors import CapacityError

# of one request, beyond the weights; a face may pass another
LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes: what comes back, what the one forward needs meanwhile, both."""

    result: int
    working: int

    @property
    def total(self) -> int:
        return self.result + self.working


def working_bytes(internals: Internals, length: int) -> int:
    """Upper estimate of one bounded forward over ``length`` tokens.

    A block of scores (scores, mask, weights, and the reductions over them), the boolean mask of
    a sliding window, keys and values repeated for grouped heads, and the widest activations.
    """
    config = internals.model.config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    inner = int(getattr(config, "intermediate_size", None) or 4 * internals.hidden)
    size = 4
    window = length * length if any(p.window for p in internals.anatomy.layers) else 0
    activations = length * (internals.hidden * 12 + inner * 3) * size
    return 3 * BLOCK_BYTES + window + activations


def check(
    internals: Internals, length: int, result: Callable[[int], int], limit: int = LIMIT
) -> Estimate:
    """The estimate. Raises CapacityError, which says how many tokens would fit.

    ``result(length)`` is the size of what comes back, in bytes.
    """

    def at(n: int) -> Estimate:
        return Estimate(result(n), working_bytes(internals, n))

    estimate = at(length)
    if estimate.total <= limit:
        return estimate
    low, high = 0, length
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle).total <= limit else (low, middle)
    raise CapacityError(
        f"attention over {length} tokens needs {estimate.total / 2**20:.0f} MiB, "
        f"{limit / 2**20:.0f} MiB are allowed; {low} tokens would fit",
        low,
    )
