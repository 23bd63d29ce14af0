"""What `_text.c` gives: the same as `normalising` and `counting`, compiled."""

from typing import final

def normalize(text: str, /) -> str | None:
    """Return an ASCII text normalised; ``None`` for others, and for some controls."""

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
