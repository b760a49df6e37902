"""What the releases under test serve, and who asks for it."""

from infermesh.client import Client, Retry
from infermesh.testing.tokens import push_tokens
from tests.cluster.release import POOL, Forward
from tests.mesh import models


def serve(release, model):
    """Pushes and deploys `served` and `tokens` on every worker of the pool."""
    with (
        Forward(release.kube, f"{release.fullname}-gateway", 8080) as gateway,
        Client(gateway.address, retry=Retry(attempts=1)) as client,
    ):
        client.push("served", model, samples=models.samples(2))
        client.deploy("served", version=1, replicas="all", pool=POOL)
        client.deploy("tokens", version=push_tokens(client, "tokens", step=0.05), replicas="all", pool=POOL)


def two_clients(release, rate):
    """Says what the usual load is made of."""
    one, many = (f"dns:///{release.service(name)}:8080" for name in ("gateway", "gateway-headless"))
    half = {"deployment": "served", "rate": rate / 2}
    streams = {"name": "streams", "target": many, "deployment": "tokens", "streams": 6, "tokens": 240}
    clients = [{"name": "one", "target": one, **half}, {"name": "many", "target": many, "balance": True, **half}]
    return {"clients": clients, "streams": [streams]}
