"""The protocol's REST form, `/v2/…`, with Triton's binary tensors, statistics and repository."""

import asyncio
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from infermesh.errors import InvalidInput, NotReady, Unsupported
from infermesh.gateway.framing.methods import Methods
from infermesh.gateway.frontends.base import Parts
from infermesh.gateway.frontends.http import Endpoint, Handler, parse_json, to_json
from infermesh.gateway.frontends.oip import describe, plain, rest_codec
from infermesh.gateway.frontends.oip.calls import make_call
from infermesh.gateway.frontends.oip.repository import Repository
from infermesh.gateway.frontends.oip.statistics import Statistics
from infermesh.gateway.frontends.oip.wire import scan
from infermesh.oip.v2 import grpc_service_pb2 as oip

_PREFIXES: Final = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
_Row = tuple[str, str, Handler]


class OipRestFrontend:
    """The HTTP routes of the protocol."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._dispatcher = parts.core.dispatcher
        self._table = parts.core.routes
        self._repository = Repository(parts.core.routes, parts.registry)
        self._statistics = Statistics(parts.core.routes, parts.workers, parts.core.stats)

    def methods(self) -> Methods:
        """Returns nothing: `grpc` has them."""
        return {}

    def routes(self) -> Sequence[BaseRoute]:
        """Returns the routes; those with fixed names before those that take any."""
        guard = self._parts.guard
        return [
            Route(path, Endpoint(handler, guard), methods=[verb])
            for verb, path, handler in (*self._inference(), *self._server_wide(), *self._per_model())
        ]

    def _inference(self) -> Iterator[_Row]:
        for prefix in _PREFIXES:
            yield "POST", f"{prefix}/infer", self._infer

    def _server_wide(self) -> Iterator[_Row]:
        yield "GET", "/v2", self._server
        yield "GET", "/v2/health/live", self._live
        yield "GET", "/v2/health/ready", self._ready
        yield "GET", "/v2/models", self._models
        yield "GET", "/v2/models/stats", self._stats
        for prefix in ("/v2/repository", "/v2/repository/{repository}"):
            yield "POST", f"{prefix}/index", self._index
            yield "POST", f"{prefix}/models/{{model}}/load", self._load
            yield "POST", f"{prefix}/models/{{model}}/unload", self._unload
        for memory in ("systemsharedmemory", "cudasharedmemory"):
            for verb in ("GET", "POST"):
                yield verb, f"/v2/{memory}/{{rest:path}}", self._refuse

    def _per_model(self) -> Iterator[_Row]:
        for prefix in _PREFIXES:
            yield "GET", prefix, self._metadata
            yield "GET", f"{prefix}/ready", self._model_ready
            yield "GET", f"{prefix}/config", self._config
            yield "GET", f"{prefix}/stats", self._stats

    async def _infer(self, request: Request, body: bytes) -> Response:
        model, number = _names(request)
        header = request.headers.get(rest_codec.HEADER)
        if header == "0" and body:
            signature = self._table.description(model, number).signature
            message, wish = rest_codec.read_raw(model, number, signature, body)
        else:
            message, wish = rest_codec.read(model, number, *rest_codec.split(body, header))
        payload = message.SerializeToString()
        trace = (request.headers.get("traceparent", ""), request.headers.get("tracestate", ""))
        call = make_call(scan(payload), payload, asyncio.get_running_loop().time(), None, trace)
        response = oip.ModelInferResponse.FromString(bytes(await self._dispatcher.infer(call)))
        content, length = rest_codec.write(response, wish)
        if length is None:
            return Response(content, media_type="application/json")
        headers = {rest_codec.HEADER: str(length)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    async def _live(self, request: Request, body: bytes) -> Response:
        return to_json({"live": True})

    async def _ready(self, request: Request, body: bytes) -> Response:
        if not self._parts.health.serving():
            raise NotReady("the gateway is not ready", retry_after=1.0)
        return to_json({"ready": True})

    async def _server(self, request: Request, body: bytes) -> Response:
        extensions = list(describe.EXTENSIONS)
        return to_json({"name": describe.SERVER, "version": version("infermesh"), "extensions": extensions})

    async def _models(self, request: Request, body: bytes) -> Response:
        return to_json({"models": sorted(self._table.routes)})

    async def _model_ready(self, request: Request, body: bytes) -> Response:
        model, number = _names(request)
        self._table.version(model, number)
        return to_json({"name": model, "ready": True})

    async def _metadata(self, request: Request, body: bytes) -> Response:
        model, number = _names(request)
        found = self._table.description(model, number)
        return to_json(plain.to_plain(describe.metadata(self._table.deployment(model), found)))

    async def _config(self, request: Request, body: bytes) -> Response:
        model, number = _names(request)
        found = self._table.description(model, number)
        return to_json(plain.to_plain(describe.model_config(self._table.deployment(model), found)))

    async def _stats(self, request: Request, body: bytes) -> Response:
        return to_json(plain.to_plain(await self._statistics.collect(*_names(request))))

    async def _index(self, request: Request, body: bytes) -> Response:
        ready = parse_json(body).get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidInput(f"ready: expected true or false, got {type(ready).__name__}")
        index = await self._repository.index(only_ready=ready)
        return to_json([plain.to_plain(entry) for entry in index.models])

    async def _load(self, request: Request, body: bytes) -> Response:
        if parse_json(body).get("parameters"):
            raise Unsupported("load: files and configuration come from the registry; push a version instead")
        model, _ = _names(request)
        await self._repository.load(model, None)
        return to_json({"name": model, "load": True})

    async def _unload(self, request: Request, body: bytes) -> Response:
        model, _ = _names(request)
        await self._repository.unload(model, None)
        return to_json({"name": model, "unload": True})

    async def _refuse(self, request: Request, body: bytes) -> Response:
        raise Unsupported("shared memory is not served: the workers are other machines; send binary tensors")


def _names(request: Request) -> tuple[str, str]:
    """Returns model and version of the path; empty where it has none."""
    return request.path_params.get("model", ""), request.path_params.get("version", "")
