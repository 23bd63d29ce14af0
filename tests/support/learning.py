"""Examples to learn from, and a model that is right often enough to learn."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from tests.support.asking import chat
from tests.support.scripted_answers import output_types

if TYPE_CHECKING:
    from tests.support.scripted_wire import Received

CAPITALS = {
    "Norway": "Oslo",
    "Italy": "Rome",
    "France": "Paris",
    "Spain": "Madrid",
    "Greece": "Athens",
    "Austria": "Vienna",
    "Poland": "Warsaw",
    "Ireland": "Dublin",
}
EXAMPLES = [
    {"question": f"What is the capital of {land}?", "answer": city}
    for land, city in CAPITALS.items()
]
SIGNATURE = "question -> answer"
PREDICT: dict[str, Any] = {"module": "predict", "signature": SIGNATURE}
EXACT: dict[str, Any] = {"name": "exact_match"}


def pupil(request: Received) -> str:
    """Answer most questions, and propose something else for each other prompt.

    What it says depends on what it is asked alone, whenever it is asked.
    """
    said = json.dumps(request.messages)
    number = zlib.crc32(said.encode())
    outputs = output_types(request.text("system"))
    if set(outputs) <= {"answer", "reasoning"} and outputs:
        asked = request.text("user")
        right = next(city for land, city in CAPITALS.items() if land in asked)
        return chat(reasoning="Hm.", answer=right if number % 3 else "Nowhere")
    if not outputs:
        return f"```\nName the capital, way {number}.\n```"
    proposed = dict.fromkeys(outputs, f"Name the capital, way {number}.")
    if "Respond with a JSON object" in request.text("user"):
        return json.dumps(proposed)
    return chat(**proposed)
