"""Asks a gateway for its health on each of its ports, as any gRPC client would: `health.py HOST:PORT…`.

Run by `helm test`.
"""

import os
import sys

import grpc

SERVING = b"\x08\x01"  # a grpc.health.v1.HealthCheckResponse


def read(variable: str) -> bytes | None:
    """Returns the file that an environment variable names, or None."""
    path = os.environ.get(variable)
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()


def connect(address: str) -> grpc.Channel:
    """Returns a channel, with TLS where INFERMESH_TLS_CA is set."""
    authority = read("INFERMESH_TLS_CA")
    if authority is None:
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(authority, read("INFERMESH_TLS_KEY"), read("INFERMESH_TLS_CERT"))
    name = os.environ.get("INFERMESH_TLS_SERVER_NAME") or address.partition(":")[0]
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", name)])


for address in sys.argv[1:]:
    with connect(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = check(b"", timeout=60, wait_for_ready=True)
    if answer != SERVING:
        sys.exit(f"{address}: expected SERVING, got {answer!r}")
    print(f"{address} is SERVING")
