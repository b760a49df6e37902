"""gRPC's streams of messages on HTTP/2 connections of our own: what carries the bundles between gateways and workers.

On the wire it is gRPC, and any gRPC library can be the other end. `grpc.aio` itself hands each message from thread to
thread: two to three are woken for every one that comes and two for every one that leaves, each for longer than all else
takes that is done for a call. Here a message is read, acted upon and answered in one turn of the event loop.

`client.dial` opens a call, `server.Server` takes calls; `stream.Stream` is a call, at either end. Headers are few: they
are read by the library hpack.
"""
