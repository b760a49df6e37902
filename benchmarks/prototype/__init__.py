"""The mesh's two hops with nothing in them: what its architecture costs before there is a product.

An ASGI application in Envoy, bundles over one stream, a worker, a runner behind a socket: the same libraries and
hand-overs as the mesh's, without routes, deadlines, validation, metrics, traces, retries, credit or planning. What it
costs beside an empty `grpc.aio` server on some machine is what the mesh can at best come close to there.
"""
