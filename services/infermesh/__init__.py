"""infermesh: a mesh of gateway, registry, scheduler and workers that serves models over gRPC."""
