"""Content of DSPy's own inside the text of a prompt: written, found, kept out.

DSPy writes an image into a prompt as JSON between two markers, and cuts messages of
the user at them. Text of a client's must never hold them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import Unsupported
from dspex.native.signatures.encoding import TYPE_MARKERS

if TYPE_CHECKING:
    from dspex.native.prompts.dialects import Dialect

START, END = (f"<<{marker}>>" for marker in TYPE_MARKERS)
"""What DSPy writes before and after content of its own."""

SUSPECT = "CUSTOM-TYPE-"
"""What a text with a marker holds."""

_PATTERN = re.compile(f"{START}(.*?){END}", re.DOTALL)


def neutralised(value: Any) -> Any:
    """Return a JSON value without markers in any of its texts."""
    if isinstance(value, str):
        if SUSPECT in value:
            for marker in (START, END):
                value = value.replace(marker, f"< <{marker[2:]}")
        return value
    if isinstance(value, list):
        return [neutralised(item) for item in value]
    if isinstance(value, dict):
        return {neutralised(key): neutralised(item) for key, item in value.items()}
    return value


def marked(blocks: list[dict[str, Any]], dialect: Dialect) -> str:
    """Write blocks of content as DSPy carries them through a prompt.

    Raises:
        Unsupported: An old release would garble a quote in them.
    """
    if not dialect.payloads_json:
        _refuse_quotes(blocks, dialect)
        return f"{START}{blocks}{END}"
    return f"{START}{json.dumps(blocks, ensure_ascii=False)}{END}"


def split(text: str, dialect: Dialect) -> str | list[dict[str, Any]]:
    """Cut the text of a message into blocks, if it holds content of DSPy's own."""
    if START not in text:
        return text
    blocks: list[dict[str, Any]] = []
    end = 0
    for match in _PATTERN.finditer(text):
        blocks += _text_block(text[end : match.start()])
        blocks += _payload(match[1], dialect)
        end = match.end()
    return blocks + _text_block(text[end:])


def _text_block(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text else []


def _payload(text: str, dialect: Dialect) -> list[dict[str, Any]]:
    if not dialect.payloads_json:
        text = text.replace("'", '"')
    try:
        found: list[dict[str, Any]] = json.loads(text)
    except ValueError:
        # Inside of a list or an object it was escaped once more.
        found = json.loads(json.loads(f'"{text}"'))
    return found


def _refuse_quotes(blocks: list[dict[str, Any]], dialect: Dialect) -> None:
    for text in _texts(blocks):
        if not text.isprintable() or any(sign in text for sign in "'\"\\"):
            raise Unsupported(
                f"DSPy {dialect.name} garbles images and the like whose address or "
                "data holds quotes, backslashes or control characters.",
                hint="Encode them with %, or use the dialect 3.0.4 or a newer one.",
                field="dialect",
            )


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value]
