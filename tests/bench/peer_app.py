"""The peer: a DSPy program behind FastAPI, as DSPy's deployment guide has it.

The guide's program, endpoint and ``dspy.asyncify``. ``PEER_MODE=guide`` is that;
``threads`` gives it as many threads as our workers have slots, and ``async`` awaits
the program without threads, which the guide does not do and DSPy 3 can.
"""

from __future__ import annotations

import os
from typing import Any

import dspy
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

MODE = os.environ["PEER_MODE"]
THREADS = {"guide": 8, "threads": 64, "async": 8}[MODE]


class Question(BaseModel):
    text: str


app = FastAPI()
dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
lm = dspy.LM(
    "openai/scripted",
    api_base=os.environ["PEER_MODEL_URL"],
    api_key=os.environ["PEER_MODEL_KEY"],
    cache=False,
)
# The guide says 4, and that 8 is the default.
dspy.configure(lm=lm, async_max_workers=THREADS)
program = dspy.Predict("question -> answer")
asyncified: Any = dspy.asyncify(program)
ask: Any = program.acall if MODE == "async" else asyncified


@app.post("/predict")
async def predict(question: Question) -> dict[str, Any]:
    try:
        result = await ask(question=question.text)
        return {"status": "success", "data": result.toDict()}
    except Exception as error:
        raise HTTPException(status_code=500, detail=str(error)) from error


@app.get("/process")
async def process() -> int:
    return os.getpid()
