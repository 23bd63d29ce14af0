"""What a client gets for its question."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from dspex.contracts.envelope import Metadata


class Prediction(Struct, frozen=True, kw_only=True):
    """An answer: its outputs are attributes too.

    Attributes:
        outputs: A value per output field.
        metadata: Who answered, and how long it took.
        request: Correlation id.
    """

    outputs: dict[str, Any]
    metadata: Metadata
    request: str

    def __getattr__(self, name: str) -> Any:
        try:
            return self.outputs[name]
        except KeyError:
            raise AttributeError(
                f"No output {name!r}. Outputs: {', '.join(self.outputs)}."
            ) from None

    def __getitem__(self, name: str) -> Any:
        return self.outputs[name]
