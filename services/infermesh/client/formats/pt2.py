"""Reads signatures from `.pt2` archives (torch.export): a zip with the exported graph as JSON."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from infermesh.client.formats import Description
from infermesh.errors import InvalidInput
from infermesh.v1 import model_pb2, tensor_pb2

# torch._export.serde.schema.ScalarType
_DATATYPES: Final[dict[int, str]] = {
    1: "UINT8",
    2: "INT8",
    3: "INT16",
    4: "INT32",
    5: "INT64",
    6: "FP16",
    7: "FP32",
    8: "FP64",
    12: "BOOL",
    13: "BF16",
    28: "UINT16",
    34: "UINT32",
    35: "UINT64",
}
_MOST: Final = 64 * 1024 * 1024  # a graph is text of some megabytes; more is no graph
_UNBOUNDED: Final = 1 << 30  # torch writes its largest integer where there is no bound

Json = Mapping[str, Any]


def read(file: Path) -> Description:
    """Returns signature and batch limit of an exported program. Raises InvalidInput if the archive is broken.

    Inputs have the names of `forward`'s arguments; outputs those of the dict that it returns, else `output`, or
    `output_0`, `output_1`, …
    """
    try:
        model = _load(file)
        return Description() if model is None else _describe(model)
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"file {file.name}: not a .pt2 archive: {error}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return Description()  # another version of the format: the caller is asked for a signature


def _load(file: Path) -> Json | None:
    with zipfile.ZipFile(file) as archive:
        found = [info for info in archive.infolist() if info.filename.endswith("/models/model.json")]
        if not found or found[0].file_size > _MOST:
            return None
        model: Json = json.loads(archive.read(found[0]))
        return model


def _describe(model: Json) -> Description:
    module = model["graph_module"]
    values = module["graph"]["tensor_values"]
    signature = module["signature"]
    inputs = [
        spec["user_input"]["arg"]["as_tensor"]["name"] for spec in signature["input_specs"] if "user_input" in spec
    ]
    outputs = [
        spec["user_output"]["arg"]["as_tensor"]["name"] for spec in signature["output_specs"] if "user_output" in spec
    ]
    names = output_names(_call_signature(module).get("out_spec", ""), len(outputs))
    described = model_pb2.Signature(
        inputs=[_spec(name, values[name]) for name in inputs],
        outputs=[_spec(name, values[value]) for name, value in zip(names, outputs, strict=True)],
    )
    return Description(described, _batch_limit(model, [values[name] for name in inputs]))


def _call_signature(module: Json) -> Json:
    return next((call["signature"] or {} for call in module["module_call_graph"] if call["fqn"] == ""), {})


def output_names(out_spec: str, count: int) -> list[str]:
    """Returns the names of `count` outputs: the keys of a flat dict by its tree spec, else numbered."""
    tree = json.loads(out_spec)[1] if out_spec else {}
    if tree.get("type") == "builtins.dict" and len(tree["children_spec"]) == count:
        return [str(key) for key in json.loads(tree["context"])]
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _spec(name: str, value: Json) -> tensor_pb2.TensorSpec:
    shape = [size.get("as_int", -1) for size in value["sizes"]]
    return tensor_pb2.TensorSpec(name=name, datatype=_DATATYPES[value["dtype"]], shape=shape)


def _batch_limit(model: Json, inputs: Sequence[Json]) -> int | None:
    symbols = {_symbol(value["sizes"][0]) for value in inputs if value["sizes"]}
    bounds = [bound.get("max_val") for name, bound in model.get("range_constraints", {}).items() if name in symbols]
    known = [bound for bound in bounds if bound is not None and bound < _UNBOUNDED]
    return min(known, default=None)


def _symbol(size: Json) -> str:
    text = str(size.get("as_expr", {}).get("expr_str", ""))
    return text.split("'")[1] if text.startswith("Symbol('") else text
