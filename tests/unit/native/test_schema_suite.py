"""The official JSON Schema test suite, drafts 2020-12 and 7."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dspex.contracts.failures import Unsupported
from dspex.native.schemas.documents import DRAFT_7, DRAFT_2020_12
from dspex.native.schemas.validating import faults

SUITE = Path(__file__).with_name("json_schema_suite")
URIS = {"draft2020-12": DRAFT_2020_12.uri, "draft7": DRAFT_7.uri}
CASES = {
    f"{draft}/{name}: {case['description']}": (draft, case)
    for draft in URIS
    for name, cases in json.loads((SUITE / f"{draft}.json").read_text("utf-8")).items()
    for case in cases
}
REMOTES: dict[str, Any] = json.loads((SUITE / "remotes.json").read_text("utf-8"))

METASCHEMA = "refers to the meta-schema, and nothing outside of the schema is read"
OTHER_DRAFT = "refers to a document of another draft"
TWO_NAMES = "needs a document to have two URIs, which one document cannot say"
REFUSED = {
    "validate definition against metaschema": METASCHEMA,
    "remote ref, containing refs itself": METASCHEMA,
    "refs to future drafts are processed as future drafts": OTHER_DRAFT,
    "refs to historic drafts are processed as historic drafts": OTHER_DRAFT,
    "remote HTTP ref with different $id": TWO_NAMES,
    "remote HTTP ref with different URN $id": TWO_NAMES,
}
"""What the suite asks for and is refused here, and why."""


@pytest.mark.parametrize(("draft", "case"), CASES.values(), ids=CASES)
def test_suite(draft: str, case: dict[str, Any]) -> None:
    """Every value is valid or not as the suite says, or the schema is refused."""
    schema = bundled(case["schema"], draft)

    for one in case["tests"]:
        if case["description"] in REFUSED and refuses(schema, one["data"]):
            continue
        assert (not faults(schema, one["data"])) is one["valid"], one["description"]


def test_refusals_are_needed() -> None:
    """Every case that may be refused is refused at least once."""
    needed = {
        case["description"]
        for draft, case in CASES.values()
        if case["description"] in REFUSED
        and refuses(bundled(case["schema"], draft), None)
    }

    assert needed == REFUSED.keys()


def refuses(schema: Any, value: Any) -> bool:
    try:
        faults(schema, value)
    except Unsupported:
        return True
    return False


def bundled(schema: Any, draft: str) -> Any:
    """Put the documents that a schema leads to into it, as its author is told to."""
    if not isinstance(schema, dict):
        return schema
    wanted = {"$schema": URIS[draft], **schema}
    if not refuses(wanted, None):
        return wanted
    keyword = "definitions" if draft == "draft7" else "$defs"
    others = {
        url: {"$id": url, **document}
        for url, document in REMOTES.items()
        if not any(f"/{one}/" in url for one in URIS if one != draft)
        and document.get("$schema", URIS[draft]).removesuffix("#") == URIS[draft]
    }
    return {**wanted, keyword: {**wanted.get(keyword, {}), **others}}
