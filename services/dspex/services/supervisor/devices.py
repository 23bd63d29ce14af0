"""Which GPU a new worker gets: pure, given the GPUs there are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dspex.contracts.failures import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dspex.contracts.heartbeats import Gpu

ALL = "all"


def assign(wanted: Sequence[str], gpus: Sequence[Gpu], taken: Iterable[str]) -> str:
    """The UUID of the GPU for one more worker: the one that fewest have.

    Args:
        wanted: Those its pool may use, by index or UUID, or ``all``.
        gpus: Those there are.
        taken: UUIDs that workers have, one for each.

    Raises:
        NotFound: None of those wanted is there.
    """
    named = {str(number): gpu.uuid for number, gpu in enumerate(gpus)}
    named |= {gpu.uuid: gpu.uuid for gpu in gpus}
    if ALL in wanted:
        usable = [gpu.uuid for gpu in gpus]
    else:
        usable = [named[one] for one in wanted if one in named]
    if not usable:
        there = ", ".join(f"{gpu.uuid} ({gpu.name})" for gpu in gpus) or "none"
        raise NotFound(
            f"None of the GPUs {', '.join(wanted)} is here. There are: {there}.",
            field="gpus",
            hint="Correct gpus of the pool, or look with `dspex doctor`.",
        )
    shares = Counter(taken)
    return min(usable, key=lambda uuid: (shares[uuid], usable.index(uuid)))
