"""Every example runs as a newcomer would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infermesh.testing import LocalMesh, MeshOptions

pytestmark = pytest.mark.mesh

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SAID = {
    "wine_torch.py": "unknown wines",
    "many_calls.py": "tensor 'wine': expected",
    "textbook.py": "scores",
    "triton_client.py": "version 1 scores",
    "diabetes_onnx.py": "prod is version 2",
    "python_model/push.py": "4 words, the longest is 'immutable'",
    "word_stream/push.py": "6 id",
}


@pytest.fixture(scope="module")
def permissive(tmp_path_factory):
    """A mesh whose one worker runs Python code."""
    options = MeshOptions(workers=1, device="cpu", flags={"worker": ["--allow-python"]})
    with LocalMesh(tmp_path_factory.mktemp("examples"), options) as mesh:
        yield mesh


def test_every_example_is_run():
    found = {p.relative_to(EXAMPLES).as_posix() for p in EXAMPLES.rglob("*.py") if p.name != "model.py"}
    assert found == set(SAID)
    listed = (EXAMPLES / "README.md").read_text()
    assert all(name.split("/")[0] in listed for name in SAID)


def test_the_examples_in_their_order(permissive, tmp_path):
    for name, said in SAID.items():
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(EXAMPLES / name)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=100,
            env={**os.environ, "INFERMESH_ADDRESS": permissive.gateway},
        )
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert said in done.stdout, name
