"""Digests over a canonical form. Protobuf's own encoding is not canonical across versions, so it is not hashed."""

import hashlib
import json
from typing import Any

from google.protobuf.message import Message

from infermesh.v1.model_pb2 import ModelVersion
from infermesh.v1.tensor_pb2 import Tensor


def version_digest(version: ModelVersion) -> str:
    """Returns `sha256:…` over all that decides how a version behaves; the order of its files does not matter.

    Part of the API: the same version has the same digest in every release and every language.
    """
    signature = version.signature
    form = {
        "backend": version.backend,
        "device": version.device,
        "files": sorted([file.path, file.digest, file.size_bytes] for file in version.files),
        "inputs": [[spec.name, spec.datatype, list(spec.shape)] for spec in signature.inputs],
        "max_batch_size": version.max_batch_size,
        "memory_bytes": version.memory_bytes,
        "options": dict(version.options),
        "outputs": [[spec.name, spec.datatype, list(spec.shape)] for spec in signature.outputs],
        "samples": [
            {
                "atol": sample.atol.hex(),
                "inputs": [_tensor(tensor) for tensor in sample.inputs],
                "outputs": [_tensor(tensor) for tensor in sample.outputs],
                "rtol": sample.rtol.hex(),
            }
            for sample in version.samples
        ],
    }
    if version.decoupled:  # what was never said before is left out, so that older digests stay as they are
        form["decoupled"] = True
    text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def request_digest(request: Message) -> str:
    """Returns a digest of a request for telling a repeated call from another one with the same id.

    Deterministic within one release, which is enough: request ids live for a day.
    """
    form = request.DESCRIPTOR.full_name.encode() + b"\0" + request.SerializeToString(deterministic=True)
    return hashlib.sha256(form).hexdigest()


def _tensor(tensor: Tensor) -> list[Any]:
    return [tensor.name, tensor.datatype, list(tensor.shape), hashlib.sha256(tensor.data).hexdigest()]
