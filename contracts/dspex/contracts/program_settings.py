"""Sections of the configuration about programs and the functions that they call."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field


class Tools(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[tools]``: which functions programs may call.

    Attributes:
        subjects: Subjects, wildcards included, beside ``<prefix>.v1.tool.>`` of the
            tenant; open to all tenants.
    """

    subjects: list[str] = field(default_factory=list)


class OwnProgram(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[programs.<name>]``: a program written in Python.

    Attributes:
        path: Where it is, ``package.module:Class``; a ``dspy.Module`` that is made
            without arguments.
    """

    path: Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
