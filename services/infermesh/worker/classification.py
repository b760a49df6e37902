"""The classification extension: the top classes of an output instead of its values. Used by `results`."""

import numpy as np

from infermesh.datatypes import encode_bytes
from infermesh.errors import InvalidInput
from infermesh.tensors import decode


def top_classes(
    name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview, classes: int, batched: bool
) -> tuple[str, str, tuple[int, ...], bytes]:
    """Returns an output as BYTES elements `value:index`, highest value first; at most `classes` for each row.

    Raises InvalidInput for an output without an order (BYTES, BF16).
    """
    if datatype in ("BYTES", "BF16"):
        raise InvalidInput(f"parameter 'classification' of output '{name}': expected numbers, got {datatype}")
    rows = shape[0] if batched else 1
    values = decode(name, datatype, shape, data).reshape(rows, -1)
    # stable: of equal values the lower index comes first
    order = np.argsort(-values.astype(np.float64), axis=1, kind="stable")[:, :classes]
    whole = datatype not in ("FP16", "FP32", "FP64")
    texts = [
        (f"{int(row[index])}:{index}" if whole else f"{float(row[index]):f}:{index}").encode()
        for row, indices in zip(values, order, strict=True)
        for index in indices.tolist()
    ]
    count = order.shape[1]
    return name, "BYTES", (rows, count) if batched else (count,), encode_bytes(texts)
