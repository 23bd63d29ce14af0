"""What a request is answered with, as a Python value."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from dspex.contracts.envelope import Done, Metadata, Reply, failure


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


def answer_of(reply: Reply) -> Prediction:
    """What a reply says.

    Raises:
        Failure: What it failed with.
    """
    if isinstance(reply, Done):
        return Prediction(
            outputs=reply.outputs, metadata=reply.metadata, request=reply.request
        )
    raise failure(reply)
