"""The files behind the services, under the names that clients know. Used by `reflection` only.

Our messages of foreign protocols live in packages of our own, so that nobody's descriptor pool is disturbed; here their
descriptors are given back their true names, in a pool of their own.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from infermesh.errors import NotFound
from infermesh.health.v1 import health_pb2
from infermesh.oip.v2 import grpc_service_pb2
from infermesh.reflection.v1 import reflection_pb2
from infermesh.v1 import (
    artifact_service_pb2,
    deployment_service_pb2,
    model_service_pb2,
    scheduler_service_pb2,
    state_service_pb2,
)

_OURS: Final[tuple[Any, ...]] = (
    artifact_service_pb2,
    deployment_service_pb2,
    model_service_pb2,
    scheduler_service_pb2,
    state_service_pb2,
    operations_pb2,
)
# our package: its true name
_FOREIGN: Final[tuple[tuple[Any, str, str], ...]] = (
    (grpc_service_pb2, "infermesh.oip.v2", "inference"),
    (health_pb2, "infermesh.health.v1", "grpc.health.v1"),
    (reflection_pb2, "infermesh.reflection.v1", "grpc.reflection.v1"),
    (reflection_pb2, "infermesh.reflection.v1", "grpc.reflection.v1alpha"),
)


class Descriptors:
    """All files by name and by symbol. Immutable."""

    def __init__(self) -> None:
        self._files: dict[str, FileDescriptorProto] = {}
        for module in _OURS:
            self._add(module.DESCRIPTOR)
        for module, package, true in _FOREIGN:
            self._add(module.DESCRIPTOR, package, true)
        self._pool = descriptor_pool.DescriptorPool()
        for name in self._files:
            for file in reversed(self._closure(name)):
                self._pool.Add(file)

    def by_name(self, name: str) -> Sequence[bytes]:
        """Returns a file and all that it imports, serialised. Raises NotFound."""
        if name not in self._files:
            raise NotFound.of("file", name)
        return [file.SerializeToString() for file in self._closure(name)]

    def by_symbol(self, symbol: str) -> Sequence[bytes]:
        """Returns the file that defines a service, method, message, field or enum, and its imports. Raises NotFound."""
        try:
            file = self._pool.FindFileContainingSymbol(symbol)
        except KeyError as error:
            raise NotFound.of("symbol", symbol) from error
        return self.by_name(file.name)

    def _add(self, descriptor: Any, package: str = "", true: str = "") -> None:
        file = FileDescriptorProto()
        descriptor.CopyToProto(file)
        if package and descriptor.package == package:
            _rename(file, package, true)
        for dependency in descriptor.dependencies:
            self._add(dependency, package, true)
        self._files[file.name] = file

    def _closure(self, name: str) -> list[FileDescriptorProto]:
        """Returns a file and what it imports, the file first, and none before those that import it."""
        ordered: dict[str, None] = {}
        self._visit(name, ordered)
        return [self._files[each] for each in reversed(ordered)]

    def _visit(self, name: str, ordered: dict[str, None]) -> None:
        if name not in ordered:
            for dependency in self._files[name].dependency:
                self._visit(dependency, ordered)
            ordered[name] = None


def _rename(file: FileDescriptorProto, package: str, true: str) -> None:
    """Moves a file from one package to another, with its name, its imports and every type that it mentions."""
    folder, true_folder = package.replace(".", "/") + "/", true.replace(".", "/") + "/"
    file.package = true
    file.name = true_folder + file.name.removeprefix(folder)
    for at, dependency in enumerate(file.dependency):
        if dependency.startswith(folder):
            file.dependency[at] = true_folder + dependency.removeprefix(folder)
    for message in _messages(file.message_type):
        for field in message.field:
            if field.type_name:  # setting it, even to nothing, would make a number's field a message's
                field.type_name = _renamed(field.type_name, package, true)
    for service in file.service:
        for method in service.method:
            method.input_type = _renamed(method.input_type, package, true)
            method.output_type = _renamed(method.output_type, package, true)


def _messages(messages: Any) -> Iterator[DescriptorProto]:
    for message in messages:
        yield message
        yield from _messages(message.nested_type)


def _renamed(type_name: str, package: str, true: str) -> str:
    prefix = f".{package}."
    return f".{true}.{type_name.removeprefix(prefix)}" if type_name.startswith(prefix) else type_name
