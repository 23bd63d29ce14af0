"""Leaving out what must not be told: headers by name, fields by path, texts by pattern.

A value that a path names is not only left out where it stands: the prompt holds it,
the model repeats it, a failure quotes it. So every text of the same request is searched
for it, also as JSON and XML write it, with other white space, in other case. Where a
text holds only its beginning, as failures that quote long values do, the whole text is
left out. And where a path names an output, what the model wrote is left out whole: the
text that a value was read from need not hold it to the letter.
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.contracts import encoding
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspex.contracts.journaling import Redact

MARK = "[redacted]"
"""What stands where something was left out."""

SHORTEST = 3
"""Characters; a shorter value is left out where it stands, and nowhere else."""

PREFIX = 12
"""Characters of a value's beginning that make a text suspicious."""

PLAIN = frozenset(
    {
        "type",
        "kind",
        "request",
        "attempt",
        "seq",
        "call",
        "at",
        "ms",
        "tenant",
        "operation",
        "deadline",
        "worker",
        "pool",
        "code",
        "category",
        "retryable",
        "retry_after_ms",
        "metadata",
        "decision",
        "dspy",
        "lm",
        "model",
        "pieces",
        "usage",
        "cut",
    }
)
"""Fields of events and records that say nothing a client wrote."""

_GAP = (
    r"(?:[\s\x00-\x1f\x85\u2028\u2029]|\\[abfnrtv]|\\x[01][0-9a-f]|\\x85"
    r"|\\u00[01][0-9a-f]|\\u0085|\\u202[89])"
)
"""White space and control characters, also as escapes: readers change them."""

_GAPS = re.compile(f"{_GAP}+", re.I)
_STEP = re.compile(r"[^.\[\]]+")


class Rules(NamedTuple):
    """What is left out, ready to be looked for.

    Attributes:
        headers: Names of headers, in lower case.
        paths: Paths of fields, each as its steps.
        patterns: What no text may hold.
    """

    headers: frozenset[str] = frozenset()
    paths: tuple[tuple[str, ...], ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()

    @property
    def hide_texts(self) -> bool:
        """Whether texts are searched; one that comes in pieces cannot be."""
        return bool(self.paths or self.patterns)

    @property
    def hide_outputs(self) -> bool:
        """Whether something is named that is known only once there are outputs."""
        return any(path[0] in ("outputs", "*", "**") for path in self.paths)


def rules_of(section: Redact) -> Rules:
    """The rules of a configuration.

    Raises:
        ValueError: A path has no steps, or a pattern is no regular expression.
    """
    paths = []
    for text in section.fields:
        steps = tuple(_STEP.findall(text))
        if not steps or set(steps) <= {"*", "**"}:
            raise ValueError(f"{text!r} names no field; write it as inputs.*.name")
        paths.append(steps)
    patterns = []
    for text in section.patterns:
        try:
            patterns.append(re.compile(text))
        except re.error as error:
            raise ValueError(f"{text!r} is no regular expression: {error}") from None
    headers = frozenset(name.lower() for name in section.headers)
    return Rules(headers, tuple(paths), tuple(patterns))


class Redaction:
    """What is left out of everything that is told of one request.

    Args:
        rules: What the configuration says.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._secrets: set[str] = set()
        self._search: re.Pattern[str] | None = None
        self._beginning: re.Pattern[str] | None = None

    def learn(self, message: Any) -> None:
        """Take in the values that the paths name in ``message``."""
        for path in self.rules.paths:
            self._hide(message, path)

    def learn_body(self, body: bytes, media: str) -> None:
        """Take in those of a request's body, if it can be read at all."""
        try:
            self.learn(encoding.decode(body, Any, media))
        except Failure:
            return  # nobody will quote from it either: it is refused as it is

    def of(self, message: Any) -> Any:
        """An event or a record as it may be told; plain dicts and lists."""
        for path in self.rules.paths:
            message = self._hide(message, path)
            for within in ("body", "headers"):
                if isinstance(message, dict) and message.get(within) is not None:
                    message = message | {within: self._hide(message[within], path)}
        if isinstance(message, dict):
            message = self._of_fields(message)
        return message

    def log_text(self, text: str) -> str:
        """A text of the log as it may be written."""
        return MARK if self.rules.hide_outputs else self.text(text)

    def text(self, text: str) -> str:
        """A text as it may be told."""
        if self._secrets:
            text = self._searched().sub(MARK, text)
            if self._beginning is not None and self._beginning.search(text):
                return MARK
        for pattern in self.rules.patterns:
            text = pattern.sub(MARK, text)
        return text

    def value(self, value: Any) -> Any:
        """A value with all of its texts as they may be told."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(k)): self.value(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(one) for one in value]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return value if self.text(said := str(value)) == said else MARK

    def _of_fields(self, message: dict[str, Any]) -> dict[str, Any]:
        found = {
            key: value if key in PLAIN else self.value(value)
            for key, value in message.items()
        }
        if message.get("kind") == "delta" and self.rules.hide_texts:
            # What is left out may lie across two of them.
            found["text"] = MARK
        quoting = message.get("category") in ("program", "provider")
        if quoting and self.rules.hide_outputs:
            found["message"] = MARK  # what a model wrote
        if isinstance(headers := message.get("headers"), dict):
            found["headers"] = found["headers"] | {
                name: MARK for name in headers if name.lower() in self.rules.headers
            }
        return found

    def _hide(self, value: Any, path: tuple[str, ...]) -> Any:
        if not path:
            self._collect(value)
            return MARK
        head, rest = path[0], path[1:]
        if head == "**":
            if (value := self._hide(value, rest)) is MARK:
                return value
            rest = path
        if isinstance(value, dict):
            return {
                key: self._hide(one, rest) if head in ("*", "**", key) else one
                for key, one in value.items()
            }
        if isinstance(value, list):
            return [
                self._hide(one, rest) if head in ("*", "**", str(index)) else one
                for index, one in enumerate(value)
            ]
        return value

    def _collect(self, value: Any) -> None:
        if isinstance(value, dict | list):
            for one in value.values() if isinstance(value, dict) else value:
                self._collect(one)
        elif value is not None and not isinstance(value, bool) and value is not MARK:
            known = len(self._secrets)
            self._secrets |= set(_forms(str(value)))
            if len(self._secrets) > known:
                self._search = None

    def _searched(self) -> re.Pattern[str]:
        if self._search is None:
            self._search = _any_of(self._secrets)
            long = {one[:PREFIX] for one in self._secrets if len(one) > PREFIX}
            self._beginning = _any_of(long) if long else None
        return self._search


def _any_of(texts: set[str]) -> re.Pattern[str]:
    """Finds any of some texts, however their white space is written."""
    # The longest first: one value may begin as another does.
    ordered = sorted(texts, key=len, reverse=True)
    loose = (
        f"{_GAP}*".join(map(re.escape, filter(None, _GAPS.split(text))))
        for text in ordered
    )
    return re.compile("|".join(one or "(?!)" for one in loose), re.I)


def _forms(text: str) -> Iterable[str]:
    """A text as prompts, replies, failures and JSON may hold it."""
    shown = repr(text)[1:-1]
    quoted = (
        text,
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        shown,
        shown.replace("\\'", "'"),  # where only its beginning, without any ", is shown
        html.escape(text),
        html.escape(text, quote=False),
    )
    for one in quoted:
        for form in (one, one.strip()):
            if len(form) >= SHORTEST and form != MARK:
                yield form


def known_headers(headers: Mapping[str, str], told: Iterable[str]) -> dict[str, str]:
    """Those headers of a request whose values we read; others may be secrets."""
    return {name: headers[name] for name in told if name in headers}
