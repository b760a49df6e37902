"""Where deployments are: an immutable view of the last route snapshot. Used by the dispatcher and the front ends."""

from infermesh.v1.scheduler_service_pb2 import DeploymentRoute, RouteSnapshot, VersionRoute


class RouteTable:
    """The routes as of `snapshot`, which is None until the first one has come."""

    snapshot: RouteSnapshot | None = None

    def deployment(self, name: str) -> DeploymentRoute:
        """Returns the route of a deployment. Raises NotFound, or NotReady while no snapshot has come."""
        raise NotImplementedError

    def version(self, deployment: str, version: str) -> VersionRoute:
        """Returns what answers for `version` (empty, a number or an alias) of a deployment now.

        Empty means the version with the largest share. Raises NotFound, NotReady (with `retry_after`) or LoadFailed.
        """
        raise NotImplementedError
