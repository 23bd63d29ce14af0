"""``template.render``: a Liquid template, filled with values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from liquid.exceptions import LiquidError, UndefinedError, UnknownFilterError

from dspex.contracts.failures import BadRequest, nearest
from dspex.contracts.native_requests import RenderedTemplate
from dspex.contracts.walking import path_of
from dspex.native.keeping import Kept
from dspex.native.templates.engine import RENDER_LIMIT, Context, Engine, Template
from dspex.native.templates.filters import FILTERS
from dspex.native.types.tokens import shortened
from dspex.native.work import TooMuch

if TYPE_CHECKING:
    from dspex.contracts.failures import Failure
    from dspex.contracts.native_requests import RenderTemplate

TEMPLATE_LIMIT = 64 * 1024
"""The longest template, in characters."""
TEXT_LIMIT = 1024 * 1024
"""The longest text that comes of it, in characters."""
ENTRY_LIMIT = 512
"""The most templates kept ready."""
KEPT_LIMIT = 256 * 1024
"""The most characters of the templates kept ready, together."""

_ENGINE = Engine()
_KEPT: Kept[Template] = Kept(ENTRY_LIMIT, KEPT_LIMIT)
# What the library raises on odd values, beside its own failures.
_ODD = (ArithmeticError, AttributeError, LookupError, RecursionError)
_ODD_VALUES = (*_ODD, TypeError, ValueError)
_NAMES_SHOWN = 100


def render_template(body: RenderTemplate) -> RenderedTemplate:
    """Fill a Liquid template.

    Args:
        body: The template and the values.

    Raises:
        BadRequest: The template cannot be read, names what is not there, or takes
            too many steps.
    """
    template = ready(body.template)
    context = Context(template, body.values)
    try:
        text = template.fill(context)
    except UndefinedError:
        raise _undefined(context) from None
    except LiquidError as error:
        raise _unfit(error, body.template) from None
    except TooMuch:
        raise _too_much() from None
    except _ODD_VALUES as error:
        raise BadRequest(
            f"The template cannot be filled with these values: {error}.",
            hint="Check what its filters and conditions are applied to.",
            field="template",
        ) from None
    if len(text) > TEXT_LIMIT:
        raise _too_much()
    return RenderedTemplate(text=text)


def ready(source: str) -> Template:
    """Make a template ready, or find it ready.

    Raises:
        BadRequest: It cannot be read.
    """
    key = source.encode("utf-8", "surrogatepass")
    found = _KEPT.get(key)
    if found is None:
        found = _read(source)
        _KEPT.keep(key, found, len(source))
    return found


def _read(source: str) -> Template:
    if len(source) > TEMPLATE_LIMIT:
        raise BadRequest(
            f"The template has {len(source)} characters, more than {TEMPLATE_LIMIT}.",
            hint="Put long texts into values.",
            field="template",
        )
    try:
        return _ENGINE.read(source)
    except LiquidError as error:
        raise _unfit(error, source) from None
    except _ODD_VALUES as error:
        raise BadRequest(
            f"The template cannot be read: {error}.",
            hint="Write it more simply.",
            field="template",
        ) from None


def _unfit(error: LiquidError, source: str) -> Failure:
    message = shortened(str(error.message), 200).rstrip(".")
    line = ""
    if error.token is not None and error.token.start_index >= 0:
        line = f", line {source.count(chr(10), 0, error.token.start_index) + 1}"
    hint = "See the documentation for the part of Liquid that is read here."
    if isinstance(error, UnknownFilterError):
        hint = nearest(message.split("'")[1] if "'" in message else "", FILTERS)
    return BadRequest(
        f"The template cannot be used{line}: {message}.", hint=hint, field="template"
    )


def _undefined(context: Context) -> Failure:
    path, there = context.missing
    known = [name for name in there if isinstance(name, str)][:_NAMES_SHOWN]
    name = path_of([one if isinstance(one, (str, int)) else ... for one in path])
    last = str(path[-1]) if path else ""
    told = nearest(last, known) if known else "There is nothing inside of it."
    return BadRequest(
        f"The template names {shortened(name)!r}, which is not among the values. "
        f"{shortened(told, 400)}",
        hint="Send a value for it, or write {{ name | default: '' }}.",
        field=f"values.{shortened(name)}",
    )


def _too_much() -> Failure:
    return BadRequest(
        f"Filling the template takes more than {RENDER_LIMIT} steps or makes more "
        f"than {TEXT_LIMIT} characters.",
        hint="Loop over less, or send values that are ready to be written.",
        field="template",
    )
