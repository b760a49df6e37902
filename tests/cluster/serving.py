"""What the releases under test serve, and who asks for it."""

from infermesh.client import Client, Retry
from infermesh.testing.tokens import push_tokens
from tests.cluster.load import STREAMS
from tests.cluster.release import POOL, Forward
from tests.mesh import models

PUBLIC = (8080, 8081)  # the port of all protocols, and that of gRPC alone


def serve(release, model):
    """Pushes and deploys `served` and `tokens` on every worker of the pool."""
    with (
        Forward(release.kube, f"{release.fullname}-gateway", 8080) as gateway,
        Client(gateway.address, retry=Retry(attempts=1)) as client,
    ):
        client.push("served", model, samples=models.samples(2))
        client.deploy("served", version=1, replicas="all", pool=POOL)
        client.deploy("tokens", version=push_tokens(client, "tokens", step=0.05), replicas="all", pool=POOL)


def plain_client(release, name, deployment, rate, *, balance=False, port=8080):
    """Describes a plain client: of the service, or of the headless one if it balances itself."""
    target = f"dns:///{release.service('gateway-headless' if balance else 'gateway')}:{port}"
    return {"name": name, "target": target, "deployment": deployment, "rate": rate, "balance": balance}


def usual_load(release, rate):
    """Describes the usual load of each public port: one client with one connection, one that balances itself, and long
    token streams."""
    clients, streams = [], []
    for port in PUBLIC:
        clients.append(plain_client(release, f"one-{port}", "served", rate / 4, port=port))
        many = plain_client(release, f"many-{port}", "served", rate / 4, balance=True, port=port)
        clients.append(many)
        stream = {"target": many["target"], "deployment": "tokens", "streams": 3, "tokens": 240}
        streams.append({"name": f"{STREAMS}-{port}"} | stream)
    return {"clients": clients, "streams": streams}
