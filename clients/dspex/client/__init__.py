"""The Python client: ``async with dspex.client.connect() as client``.

Imports the contracts and the bus. ``dspex.client.sync`` is its twin for notebooks.
"""

from dspex.client.client import Client, connect
from dspex.client.options import Options
from dspex.client.prediction import Prediction
from dspex.client.sessions import Session

__all__ = ["Client", "Options", "Prediction", "Session", "connect"]
