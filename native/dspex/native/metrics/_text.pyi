"""What `_text.c` gives: the same as `normalising` and `counting`, compiled."""

from collections.abc import Callable
from typing import final

from dspex.native.metrics.letters import Letter

def normalize(text: str, /) -> str | None:
    """Return a text normalised.

    ``None`` for the few that Python has to see to: where the order of marks, a sigma or
    half a character matters, or a sign of music is in it.
    """

def tokens(normal: str, /) -> str | None:
    """Return the tokens of a normalised text, a space between; ``None`` as above."""

def learn_from(describe: Callable[[int], Letter | None], /) -> None:
    """Say who knows what a character becomes: asked once for each of them."""

@final
class Words:
    """The words of a normalised text, counted.

    Args:
        normal: The text, its words one space apart.
    """

    def __new__(cls, normal: str, /) -> Words: ...
    def overlap(self, prediction: str | Words, /) -> tuple[float, float, float]:
        """Return F1, precision and recall of another normalised text's words.

        Args:
            prediction: The text; counted, where it is held against several.
        """
