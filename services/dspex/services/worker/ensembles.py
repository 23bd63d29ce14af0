"""``dspy.Ensemble``: several programs, and what most of them answer."""

from __future__ import annotations

import random
from typing import Any

from dspex.services.worker.composing import Composite, commonest, together
from dspex.services.worker.stoppable import apart


class Ensemble(Composite):
    """Several programs on the same inputs, side by side."""

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """What most of them answer, or all answers."""
        spec: Any = self.node.spec
        asked = list(range(len(self.parts)))
        if spec.size is not None:
            asked = random.sample(asked, spec.size)  # as DSPy draws them
        works = [lambda i=i: apart(self.part(i, inputs)) for i in asked]
        answers = await together(works, len(works))
        if spec.reduce is None:
            return {"completions": answers}
        field = spec.field or list(self.node.parts[0].node.gives or answers[0])[-1]
        found = commonest(answers, field)
        names = self.node.gives
        return {name: found[name] for name in names} if names else found
