"""The Open Inference Protocol (KServe V2) with Triton's extensions: what its gRPC and its REST form share.

`wire` reads a request without decoding it, `calls` makes calls of requests, `describe` turns routes into metadata,
`statistics` sums what workers counted, `repository` lists, loads and unloads. The front ends are `grpc` and `rest`.
"""
