"""The gRPC port: HTTP/2 in this process, with no Envoy between.

Envoy costs a small call more than everything behind it. It stays the front door of all protocols, and the one for
strangers; this one is for gRPC alone. `door` listens, `connection` takes calls, `call` answers them: a unary one in the
turn of the event loop in which it comes, all others by the same `Exchange` as Envoy's, with `body` as its `receive`.
`gathering` sends together what is said at once.
"""
