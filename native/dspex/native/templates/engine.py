"""The Liquid engine with everything counted that a template can make it do.

The library bounds loops and output, and no filter, comparison or conversion: all of
them can be made to work for hours with a few lines. Here whatever a template reads,
makes or repeats is paid for in steps, before it happens where it could be large.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

from liquid import BoundTemplate, Environment, RenderContext, StrictDefaultUndefined
from liquid.builtin import content, illegal, output
from liquid.builtin.expressions import LoopExpression
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.tags import (
    assign_tag,
    capture_tag,
    case_tag,
    comment_tag,
    cycle_tag,
    decrement_tag,
    echo_tag,
    for_tag,
    if_tag,
    increment_tag,
    inline_comment_tag,
    unless_tag,
)
from liquid.exceptions import LiquidSyntaxError
from liquid.undefined import UNDEFINED
from liquid.utils import ReadOnlyChainMap

from dspex.native.templates.filters import FILTERS, price, weight
from dspex.native.templates.lexing import tokens
from dspex.native.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TextIO

    from liquid.ast import Node
    from liquid.expression import Expression
    from liquid.token import Token

RENDER_LIMIT = 2_000_000
"""The most steps of one rendering; a step takes about a tenth of a microsecond."""

_LEAST_WEIGHT = 10


class Context(RenderContext):
    """One rendering.

    Args:
        template: What is rendered.
        values: What it may name.

    Attributes:
        work: What may still be done.
        round: What one round of the loop that begins next costs, steps.
        missing: The way to the last name that was not found, and the names there.
    """

    __slots__ = ("missing", "round", "work")

    def __init__(self, template: BoundTemplate, values: Mapping[str, object]) -> None:
        super().__init__(template, globals=values)
        # The library also knows `now` and `today`; no template may ask for the time.
        self.scope = ReadOnlyChainMap(self.locals, self.globals, self.counters)
        self.work = Work(RENDER_LIMIT)
        self.round = 1
        self.missing: tuple[list[object], list[object]] = [], []

    def get(
        self,
        path: list[object],
        *,
        token: Token | None,
        default: object = UNDEFINED,
    ) -> object:
        """Look a value up and pay for its size: it may be compared or written."""
        found = super().get(path, token=token, default=default)
        # Not isinstance: it asks an undefined value for its class, which fails.
        if type(found) is StrictDefaultUndefined:
            self.missing = self._missing(path)
        self.work.spend(weight(found, self.work.left))
        return found

    def assign(self, key: str, val: Any) -> None:
        """Name a value."""
        self.work.spend(_LEAST_WEIGHT)
        super().assign(key, val)

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        """Return a filter that is paid for when it is used."""
        function = super().filter(name, token)

        def paid(value: object, *arguments: object, **named: object) -> object:
            self.work.spend(
                price(name, value, [*arguments, *named.values()], self.work)
            )
            found = function(value, *arguments, **named)
            self.work.spend(4 * weight(found, self.work.left))
            return found

        return paid

    def raise_for_loop_limit(self, length: int = 1) -> None:
        """Pay for going round a loop."""
        self.work.spend(length * self.round)

    def get_buffer(self, buf: TextIO | None = None) -> StringIO:
        """Return where text is written, and paid for."""
        return Output(self.work)

    def _missing(self, path: list[object]) -> tuple[list[object], list[object]]:
        there: object = dict(self.scope)
        for i, step in enumerate(path):
            try:
                there = there[step]  # type: ignore[index]  # what has no parts raises
            except (LookupError, TypeError):
                known: list[object] = [*there] if type(there) is dict else []
                return path[: i + 1], known
        return path, []


class Output(StringIO):
    """Text that is paid for as it is written.

    Args:
        work: What may be done.
    """

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def write(self, text: str, /) -> int:
        """Write and pay."""
        self._work.spend(1 + (len(text) >> 3))
        return super().write(text)


class Template(BoundTemplate):
    """A template ready to render."""

    def make_partial_namespace(
        self,
        partial: bool,
        render_args: Mapping[str, object],
    ) -> Mapping[str, object]:
        """Return nothing: the library's own name would hide a value of that name."""
        return {}

    def fill(self, context: Context) -> str:
        """Return the text with the values of a context.

        Raises:
            LiquidError: The template cannot be filled with them.
            dspex.native.work.TooMuch: It takes too many steps.
        """
        written = Output(context.work)
        self.render_with_context(context, written)
        return written.getvalue()


class _For(for_tag.ForNode):
    """A loop that is paid for before it begins: by its rounds and its length."""

    __slots__ = ("weight",)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.weight = max(_LEAST_WEIGHT, len(str(self.block)))

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        """Write the loop."""
        assert isinstance(context, Context)
        iterable = self.expression.iterable
        if isinstance(iterable, RangeLiteral):
            # Backwards, the library makes a list of a range first.
            numbers = iterable.evaluate(context)
            context.work.spend(numbers.stop - numbers.start)
        context.round = self.weight
        return super().render_to_output(context, buffer)


class _ForTag(for_tag.ForTag):
    node_class = _For


_TAGS = (
    content.Literal,
    output.Output,
    illegal.Illegal,
    assign_tag.AssignTag,
    capture_tag.CaptureTag,
    case_tag.CaseTag,
    comment_tag.CommentTag,
    cycle_tag.CycleTag,
    decrement_tag.DecrementTag,
    echo_tag.EchoTag,
    _ForTag,
    for_tag.BreakTag,
    for_tag.ContinueTag,
    if_tag.IfTag,
    increment_tag.IncrementTag,
    inline_comment_tag.InlineCommentTag,
    unless_tag.UnlessTag,
)


class Engine(Environment):
    """Reads templates: no files, no time of day, no tags but the pure ones."""

    template_class = Template

    def __init__(self) -> None:
        super().__init__(undefined=StrictDefaultUndefined)

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        """Add what is allowed."""
        for tag in _TAGS:
            self.add_tag(tag)
        self.filters.update(FILTERS)

    def tokenizer(self) -> Callable[[str], Iterator[Token]]:
        """Return what cuts templates into tokens."""
        return tokens

    def read(self, source: str) -> Template:
        """Make a template ready.

        Args:
            source: Its text.

        Raises:
            LiquidError: It cannot be read.
        """
        found = self.from_string(source)
        assert isinstance(found, Template)
        context = Context(found, {})
        for node in found.nodes:
            _refuse_ranges(node, context)
        return found


def _refuse_ranges(first: Node, context: Context) -> None:
    """Refuse ranges outside of loops: anything else could make lists of them."""
    todo = [first]
    while todo:
        node = todo.pop()
        todo.extend(node.children(context))
        expressions = list(node.expressions())
        while expressions:
            expression = expressions.pop()
            if isinstance(expression, RangeLiteral):
                raise LiquidSyntaxError(
                    "a range stands only in {% for %}", token=expression.token
                )
            expressions.extend(_inside(expression))


def _inside(expression: Expression) -> list[Expression]:
    found = list(expression.children())
    if isinstance(expression, LoopExpression):
        iterable = expression.iterable
        if isinstance(iterable, RangeLiteral):
            found.remove(iterable)
            found.extend(iterable.children())
    return found
