"""How the releases of DSPy differ in what they write, as switches."""

from __future__ import annotations

from msgspec import Struct

from dspex.contracts.failures import Unsupported
from dspex.native.types.tokens import shortened

RELEASES = (
    # One of the 2.x, then all there are.
    "2.6.27 3.0.0 3.0.1 3.0.2 3.0.3 3.0.4 3.1.0 3.1.2 3.1.3 "  # noqa: SIM905 - words
    "3.2.0 3.2.1 3.3.0 3.3.1 3.4.0 3.4.1".split()
)
"""The releases whose bytes are known, oldest first."""


class Dialect(Struct, frozen=True, kw_only=True):
    """What one release of DSPy writes.

    Attributes:
        version: The release, as numbers.
        enum_names: Whether an enumeration is hinted at by the names of its values.
        ascii_objects: Whether the JSON adapter escapes what is not ASCII.
        turns_completed: Whether an answer in the chat format ends with its marker.
        history_reminder: Whether a turn of a history asks as the request does.
        empty_turns: Whether a message without any text is sent all the same.
        tool_turns: Whether tool calls in a history are told from other values.
        xml_inputs: Whether the XML adapter writes inputs as XML, too.
        xml_completed: Whether the XML adapter still asks for a marker at the end.
        xml_nested: Whether the XML adapter writes lists and objects as XML.
        code_by_language: Whether code is shown fenced in its own language.
        plain_code: Whether an output of code has no hint beside its description.
        tool_calls_example: Whether tool calls are explained by an example.
        payloads_json: Whether images and the like travel through a prompt as JSON.
        pdf_as_base64: Whether a document that is a PDF says so.
    """

    version: tuple[int, ...]
    enum_names: bool
    ascii_objects: bool
    turns_completed: bool
    history_reminder: bool
    empty_turns: bool
    tool_turns: bool
    xml_inputs: bool
    xml_completed: bool
    xml_nested: bool
    code_by_language: bool
    plain_code: bool
    tool_calls_example: bool
    payloads_json: bool
    pdf_as_base64: bool

    @property
    def name(self) -> str:
        """The release as it is written."""
        return ".".join(map(str, self.version))

    def require(self, oldest: str, what: str) -> None:
        """Refuse what DSPy did not have yet, or wrote in another way.

        Raises:
            Unsupported: The dialect is older than ``oldest``.
        """
        if self.version < _numbers(oldest):
            raise Unsupported(
                f"{what} cannot be written as DSPy {self.name} does.",
                hint=f"Use the dialect {oldest} or a newer one.",
                field="dialect",
            )


def dialect(version: str) -> Dialect:
    """Return what a release of DSPy writes.

    Args:
        version: Such as ``3.4.1``.

    Raises:
        Unsupported: The release is too old, or not known.
    """
    found = _DIALECTS.get(version)
    if found is None:
        raise Unsupported(
            f"What DSPy {shortened(version)!r} writes is not known here.",
            hint=f"Known: {', '.join(RELEASES)}. Older ones differ in every prompt; "
            "let a worker with that release answer.",
            field="dialect",
        )
    return found


def _switched(version: str) -> Dialect:
    found = _numbers(version)
    return Dialect(
        version=found,
        enum_names=found < (3, 0, 0),
        ascii_objects=found < (3, 2, 0),
        turns_completed=found >= (3, 0, 0),
        history_reminder=found >= (3, 4, 1),
        empty_turns=found < (3, 3, 0),
        tool_turns=found >= (3, 3, 0),
        xml_inputs=found >= (3, 1, 0),
        xml_completed=found < (3, 0, 4),
        xml_nested=found >= (3, 3, 1),
        code_by_language=found >= (3, 1, 2),
        plain_code=found >= (3, 2, 0),
        tool_calls_example=found >= (3, 3, 0),
        payloads_json=found >= (3, 0, 4),
        pdf_as_base64=found >= (3, 4, 0),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


_DIALECTS = {version: _switched(version) for version in RELEASES}
