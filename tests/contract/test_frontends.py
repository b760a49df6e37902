"""What every front end keeps, and what every error becomes in every protocol."""

import json
from collections import Counter

import pytest

from infermesh import errors
from infermesh.gateway.framing.methods import Method
from infermesh.gateway.frontends import TABLE
from infermesh.mesh import status
from infermesh.oip.v2 import grpc_service_pb2 as oip
from tests.unit.gateway_front.parts import House
from tests.unit.gateway_front.routes_of import deployment, snapshot

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def subclasses(cls):
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in subclasses(child))]


ERRORS = sorted(subclasses(errors.MeshError), key=lambda cls: cls.__name__)


@pytest.fixture
def house():
    return House(snapshot(deployment()))


@pytest.fixture(params=TABLE.names())
def frontend(request, house):
    return house.frontends[request.param]


def test_methods_are_paths_of_methods(frontend):
    for path, method in frontend.methods().items():
        assert isinstance(method, Method)
        empty, service, name = path.split("/")
        assert (empty, "." in service, name.isidentifier()) == ("", True, True)


def test_routes_begin_at_the_root_and_name_their_verbs(frontend):
    for route in frontend.routes():
        assert route.path.startswith("/")
        assert route.methods


def test_asking_twice_gives_the_same(frontend):
    assert sorted(frontend.methods()) == sorted(frontend.methods())
    assert [r.path for r in frontend.routes()] == [r.path for r in frontend.routes()]


def test_every_front_end_serves_something(frontend):
    assert frontend.methods() or frontend.routes()


def test_no_two_front_ends_claim_one_path(house):
    paths = Counter(path for frontend in house.frontends.values() for path in frontend.methods())
    paths.update(f"{verb} {r.path}" for f in house.frontends.values() for r in f.routes() for verb in r.methods)
    assert [path for path, count in paths.items() if count > 1] == []


def test_an_unknown_front_end_names_the_known_ones():
    with pytest.raises(errors.ConfigError, match="health, metrics, oip_grpc"):
        TABLE.load("soap")


async def test_garbage_gets_an_answer_from_every_method(house):
    for name in ("health", "oip_grpc"):
        for path in house.frontends[name].methods():
            answer = await house.rpc(path, b"\xff\xff\xff")
            # on a stream of requests each has its own answer
            assert answer.code in ({0} if path == STREAM else {3, 12}), (path, answer.code, answer.text)


def rest_body():
    return json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "INT32", "data": [1]}]}).encode()


@pytest.mark.parametrize("cls", ERRORS)
class TestEveryError:
    def error(self, cls):
        return cls("it is so: 'x' ü", retry_after=1.2, metadata={"a": "b"})

    def text(self, error):
        return "internal error, request id" if type(error) is errors.Internal else error.message

    async def test_over_grpc(self, house, cls):
        error = self.error(cls)
        house.dispatcher.on_call = lambda call: error
        answer = await house.rpc(INFER, oip.ModelInferRequest(model_name="digits"))
        assert answer.code == status.code_number(error)
        rich = answer.details
        assert (rich.code, rich.message.startswith(self.text(error))) == (answer.code, True)
        rebuilt = status.from_status(rich)
        assert (type(rebuilt), rebuilt.reason) == (cls, error.reason)

    async def test_over_rest(self, house, cls):
        error = self.error(cls)
        house.dispatcher.on_call = lambda call: error
        answer = await house.http("POST", "/v2/models/digits/infer", rest_body())
        assert answer.status == status.http_of(error)
        assert json.loads(answer.body)["error"].startswith(self.text(error))
        if type(error) is not errors.Internal:
            assert answer.headers[b"retry-after"] == b"2"

    async def test_within_a_stream(self, house, cls):
        error = self.error(cls)
        house.dispatcher.on_call = lambda call: error
        answer = await house.rpc(STREAM, oip.ModelInferRequest(model_name="digits", id="7"))
        assert answer.code == 0
        (message,) = [oip.ModelStreamInferResponse.FromString(m) for m in answer.messages]
        assert message.error_message.startswith(self.text(error))
        assert message.infer_response.id == "7"

    async def test_as_the_status_of_a_stream_that_asks_for_it(self, house, cls):
        error = self.error(cls)
        house.dispatcher.on_call = lambda call: error
        request = oip.ModelInferRequest(model_name="digits")
        answer = await house.rpc(STREAM, request, headers=(("triton_grpc_error", "true"),))
        assert (answer.code, answer.messages) == (status.code_number(error), [])


async def test_the_protocols_agree_on_every_error():
    """Both derive from one table: a class that retries are right for is so in both."""
    retryable = {14: {503}, 8: {429, 413}, 4: {504}}
    for cls in ERRORS:
        error = cls("x")
        expected = retryable.get(status.code_number(error))
        assert expected is None or status.http_of(error) in expected
