"""The Python SDK of infermesh: numpy in, numpy out, typed errors. The public room; imports nothing of the others.

`AsyncClient` and `Client` (blocking) talk to a mesh through its gateway; `signature` describes tensors of a version;
`batching` how its calls are gathered, `hedging` when slow ones are sent twice; `Tls` names the files of an encrypted
connection; `ModelService` is a small object-oriented front for scripts.
"""

from infermesh.client.async_client import AsyncClient
from infermesh.client.deployments import batching, hedging
from infermesh.client.inference import InferResult
from infermesh.client.retry import Retry
from infermesh.client.service import ModelService
from infermesh.client.signature import signature
from infermesh.client.sync import Client
from infermesh.client.tls import Tls

__all__ = ["AsyncClient", "Client", "InferResult", "ModelService", "Retry", "Tls", "batching", "hedging", "signature"]
