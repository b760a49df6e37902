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


def plain_client(release, name, deployment, rate, *, balance=False):
    """Describes a plain client: of the service, or of the headless one if it balances itself."""
    target = f"dns:///{release.service('gateway-headless' if balance else 'gateway')}:8080"
    return {"name": name, "target": target, "deployment": deployment, "rate": rate, "balance": balance}


def two_clients(release, rate):
    """Describes the usual load: one client with one connection, one that balances itself, and long token streams."""
    clients = [plain_client(release, "one", "served", rate / 2)]
    clients.append(plain_client(release, "many", "served", rate / 2, balance=True))
    stream = {"name": "streams", "target": clients[1]["target"], "deployment": "tokens", "streams": 6, "tokens": 240}
    return {"clients": clients, "streams": [stream]}
