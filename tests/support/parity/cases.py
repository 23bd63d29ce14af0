"""All cases, by name."""

from tests.support.parity.around import AROUND
from tests.support.parity.compositions import COMPOSITIONS
from tests.support.parity.learning import LEARNING
from tests.support.parity.modules import MODULES

CASES = MODULES | AROUND | COMPOSITIONS | LEARNING
