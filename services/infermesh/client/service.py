"""The facade of the field's textbook example, over `Client`. Part of the public SDK."""

from collections.abc import Mapping

import numpy.typing as npt

from infermesh import names
from infermesh.client.inference import InferResult
from infermesh.client.sync import Client
from infermesh.errors import FailedPrecondition, InvalidInput
from infermesh.tensors import Array
from infermesh.v1 import model_pb2


class ModelService:
    """A model repository and the machines that run its models, in five calls.

        s = ModelService()
        s.connect_repository("127.0.0.1:8080")
        s.connect_resource("127.0.0.1:8080")
        model = s.load_model("digits")
        s.allocate_resource(model)
        s.predict(images)

    In a mesh both addresses are the gateway's. Not safe for several threads at once.
    """

    def __init__(self) -> None:
        self._repository: Client | None = None
        self._resource: Client | None = None
        self._model: model_pb2.ModelVersion | None = None
        self._deployment = ""

    def connect_repository(self, url: str) -> None:
        """Connects to where models are kept. Raises InvalidInput for a malformed address."""
        self._repository = self._replace(self._repository, url)

    def connect_resource(self, url: str) -> None:
        """Connects to where models run. Raises InvalidInput for a malformed address."""
        self._resource = self._replace(self._resource, url)

    def load_model(self, name: str) -> model_pb2.ModelVersion:
        """Returns the newest version of a model, or with `name@alias` or `name@2` that one. Raises NotFound."""
        model, _, version = name.partition("@")
        self._model = _connected(self._repository, "connect_repository").get_version(model, version or "latest")
        return self._model

    def allocate_resource(self, model: model_pb2.ModelVersion, *, replicas: int = 1, timeout: float = 300.0) -> str:
        """Deploys a version under its model's id, waits until it answers, and returns the deployment's id.

        Raises LoadFailed with the reason, DeadlineExceeded after `timeout` seconds.
        """
        model_id, version = names.parse("models/*/versions/*", model.name)
        resource = _connected(self._resource, "connect_resource")
        resource.deploy(model_id, model_id, version=version, replicas=replicas, timeout=timeout)
        self._model, self._deployment = model, model_id
        return model_id

    def predict(self, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> Array | InferResult:
        """Runs the model: of one array, for a model with one input, or of {name: array}, batch first.

        Returns the output's array if there is one output, else all by name. Raises FailedPrecondition before
        `allocate_resource`, BadTensor and the other errors of `Client.infer`.
        """
        if self._model is None or not self._deployment:
            raise FailedPrecondition("no model is allocated: call load_model and allocate_resource first")
        result = _connected(self._resource, "connect_resource").infer(self._deployment, self._named(self._model, x))
        return next(iter(result.values())) if len(result) == 1 else result

    def close(self) -> None:
        """Closes the connections; deployments go on."""
        for client in (self._repository, self._resource):
            if client is not None:
                client.close()

    @staticmethod
    def _named(
        model: model_pb2.ModelVersion, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]
    ) -> Mapping[str, npt.ArrayLike]:
        if isinstance(x, Mapping):
            return x
        inputs = [spec.name for spec in model.signature.inputs]
        if len(inputs) != 1:
            raise InvalidInput(f"inputs: the model takes {', '.join(inputs)}: give {{name: array}}")
        return {inputs[0]: x}

    @staticmethod
    def _replace(old: Client | None, url: str) -> Client:
        if old is not None:
            old.close()
        return Client(url)


def _connected(client: Client | None, call: str) -> Client:
    if client is None:
        raise FailedPrecondition(f"not connected: call {call}(url) first")
    return client
