"""Arrays and tables in requests and answers.

::

    found = await client.call("run", {"program": "sums", "inputs": packed(inputs)})
    outputs = unpacked(found.outputs)

Needs numpy, and for tables pyarrow: ``pip install "dspex[worker]"`` has both.
"""

from __future__ import annotations

from typing import Any

from dspex.native.tables.tensors import is_foreign, to_objects, to_wire


def packed(value: Any) -> Any:
    """A value with what stands for arrays and tables in their places, at any depth.

    Raises:
        OutputInvalid: An array or a table has no form on the wire.
    """
    if is_foreign(value):
        return to_wire(value)
    if isinstance(value, dict):
        return {key: packed(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [packed(one) for one in value]
    return value


def unpacked(value: Any) -> Any:
    """A value with arrays and tables in place of what stands for them, at any depth.

    Raises:
        InvalidInputs: Something is not what it says.
        Unsupported: What reads it is not installed.
    """
    return to_objects(value, "outputs")
