"""Other model servers beside ours: each in its own environment, made on demand, with the same model.

`README.md` says how each is set up, and why so.
"""

from collections.abc import Sequence
from typing import Final

from benchmarks.peers.peer import Peer, PeerError, Serving
from benchmarks.peers.wire import Grpc, Http, http_json

__all__ = ["Peer", "PeerError", "Serving", "peers"]


BENTOML: Final = {"BENTOML_HOME": "{folder}", "BENTOML_DO_NOT_TRACK": "True"}
RAY_SERVE: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_HAPROXY_METRICS_PORT": "{ports[1]}",
    "RAY_SERVE_HAPROXY_STATS_PORT": "{ports[2]}",
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{folder}/haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "{folder}/admin.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{folder}",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{folder}/server-state",
}
"""Its throughput mode, with HAProxy as its front, which keeps its files and ports where no other one looks."""


def peers() -> Sequence[Peer]:
    """Returns all of them; nothing is installed by that."""
    return (
        Peer("mosec", "best", Http("/inference")),
        Peer("fastapi", "best", Http("/predict")),
        Peer("mlserver", "heavy", Grpc()),
        Peer("kserve", "heavy", Grpc()),
        Peer("torchserve", "heavy", Http("/predictions/mlp")),
        Peer("pytriton", "other", Grpc()),
        Peer("litserve", "other", http_json("/predict", lambda x: {"x": x}, lambda answer: answer["logits"])),
        Peer("bentoml", "other", http_json("/predict", lambda x: {"x": [x]}, lambda answer: answer), BENTOML),
        Peer("ray_serve", "other", Http("/predict"), RAY_SERVE),
    )
