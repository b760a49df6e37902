"""gRPC over ASGI: frames, metadata, deadlines, trailers. Knows nothing of models; the front ends mount methods on it.

`methods.Method` says what is mounted, `exchange.serve` runs one call of it. Messages stay bytes throughout, so that the
hot path never decodes a tensor.
"""
