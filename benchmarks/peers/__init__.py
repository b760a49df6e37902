"""Other model servers beside ours: each in its own environment, made on demand, with the same model.

`README.md` says how each is set up, and why so.
"""

from collections.abc import Sequence

from benchmarks.peers.peer import Peer, PeerError, Serving
from benchmarks.peers.wire import Grpc, Http, http_json

__all__ = ["Peer", "PeerError", "Serving", "peers"]


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
        Peer("bentoml", "other", http_json("/predict", lambda x: {"x": [x]}, lambda answer: answer)),
        Peer("ray_serve", "other", Http("/predict")),
    )
