"""What tests of the mesh, ours and other people's, are made of: a whole mesh of real processes, and time under control.

Public: `LocalMesh` and its `MeshOptions`, `FakeClock`. `infermesh up` and `infermesh demo` stand on `LocalMesh` too.
"""

from infermesh.testing.clock import FakeClock
from infermesh.testing.local_mesh import LocalMesh, MeshOptions

__all__ = ["FakeClock", "LocalMesh", "MeshOptions"]
