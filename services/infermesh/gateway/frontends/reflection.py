"""`grpc.reflection`, v1 and v1alpha: tells tools which services there are and what their messages look like."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Final

import grpc
from starlette.routing import BaseRoute

from infermesh.errors import MeshError, NotFound
from infermesh.gateway.framing.methods import Context, Methods, bidi
from infermesh.gateway.frontends.base import Parts
from infermesh.gateway.frontends.descriptors import Descriptors
from infermesh.mesh import status
from infermesh.reflection.v1 import reflection_pb2 as pb

_VERSIONS: Final = ("v1", "v1alpha")


class ReflectionFrontend:
    """One handler under both names: their messages are the same on the wire."""

    def __init__(self, parts: Parts) -> None:
        self._services: Callable[[], Collection[str]] = parts.services
        self._descriptors = Descriptors()

    def methods(self) -> Methods:
        """Returns the method under both names."""
        method = bidi(pb.ServerReflectionRequest, self._answer_all, standing=True)
        return {f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo": method for version in _VERSIONS}

    def routes(self) -> Sequence[BaseRoute]:
        """Returns nothing."""
        return ()

    async def _answer_all(
        self, requests: AsyncIterator[pb.ServerReflectionRequest], context: Context
    ) -> AsyncIterator[pb.ServerReflectionResponse]:
        async for request in requests:
            response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
            try:
                self._answer(request, response)
            except MeshError as error:
                response.error_response.error_code = status.code_number(error)
                response.error_response.error_message = error.message
            yield response

    def _answer(self, request: pb.ServerReflectionRequest, response: pb.ServerReflectionResponse) -> None:
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            for name in sorted(self._services()):
                response.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            self._files(response, self._descriptors.by_name(request.file_by_filename))
        elif kind == "file_containing_symbol":
            self._files(response, self._descriptors.by_symbol(request.file_containing_symbol))
        elif kind == "all_extension_numbers_of_type":
            self._descriptors.by_symbol(request.all_extension_numbers_of_type)
            response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
        elif kind == "file_containing_extension":
            raise NotFound.of("extension", str(request.file_containing_extension.extension_number))
        else:
            response.error_response.error_code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
            response.error_response.error_message = "expected a question, got none"

    @staticmethod
    def _files(response: pb.ServerReflectionResponse, files: Sequence[bytes]) -> None:
        response.file_descriptor_response.file_descriptor_proto.extend(files)
