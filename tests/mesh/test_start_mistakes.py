"""Mistakes that only a service itself can see: it ends with status 2 and one line that names the key.

What can be seen without a service, `helm` refuses: tests/chart/test_mistakes.py.
"""

import os
import subprocess
import sys

import pytest
import yaml

from infermesh.errors import ConfigError
from infermesh.gateway.config import GatewayConfig
from infermesh.mesh.config import load
from infermesh.registry.config import RegistryConfig
from infermesh.scheduler.config import SchedulerConfig
from infermesh.worker.config import WorkerConfig

CONFIGS = {"gateway": GatewayConfig, "registry": RegistryConfig, "scheduler": SchedulerConfig, "worker": WorkerConfig}

READING = [  # settings that do not fit each other, and what a file or a variable can hold beside the chart's own
    ("gateway", {"max_memory_bytes": 10**8}, "max_memory_bytes: expected at least"),
    ("gateway", {"max_body_bytes": 2**30}, "max_memory_bytes: expected at least .* for a max_body_bytes of 1073741824"),
    ("gateway", {"scheduler": "scheduler"}, "scheduler: "),
    ("registry", {"uploads": {"ttl": 0}}, r"uploads\.ttl: "),
    ("scheduler", {"lease": {"retry": 9}}, r"lease\.retry: expected less than lease\.renew_deadline"),
    ("scheduler", {"lease": {"renew_deadline": 10}}, r"lease\.renew_deadline: expected at most lease\.duration"),
    ("scheduler", {"pools": {"cpu": {"autoscaling": "vpa"}}}, r"pools\.cpu\.autoscaling: "),
    ("scheduler", {"pools": {"cpu": {"min": 3, "max": 2}}}, "pools.cpu.*min: expected at most max"),
    ("scheduler", {"pools": {"cpu": {"minimum": 3}}}, r"pools\.cpu\.minimum: "),
    ("worker", {"weight": 0}, "weight: "),
    ("worker", {"labels": {"pool": ["cpu"]}}, r"labels\.pool: "),
]


@pytest.mark.parametrize(("room", "settings", "named"), READING)
def test_settings_that_do_not_fit_are_named(tmp_path, room, settings, named):
    file = tmp_path / f"{room}.yaml"
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=named) as refused:
        load(CONFIGS[room], ["--config", str(file)], {}, room=room)
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("room", CONFIGS)
def test_variables_that_mean_nothing_are_named(room):
    name = f"INFERMESH_{room.upper()}_SERVICE_HOST"  # as Kubernetes makes them of a Service's name
    with pytest.raises(ConfigError, match=f"unknown environment variable {name}"):
        load(CONFIGS[room], [], {name: "10.0.0.1"}, room=room)


STARTING = [
    ("registry", {"database_url": "mysql://x"}, "database_url: expected a sqlite or postgresql URL"),
    ("registry", {"database_url": "postgresql+psycopg://me:hush@127.0.0.1:9/x"}, "database_url: cannot open"),
    ("registry", {"home": "/proc/nothing"}, "home: can't use the folder /proc/nothing"),
    ("registry", {"artifacts": "tape:library"}, "artifacts: expected one of"),
    ("scheduler", {"placement": "spred"}, "expected one of binpack, spread, got 'spred'"),
    ("scheduler", {"leadership": "lease"}, "kubeconfig: not set, and this is no pod"),
    ("scheduler", {"tls": {"cert": "/no/tls.crt", "key": "/no/tls.key", "ca": "/no/ca.crt"}}, "tls.cert: can't read"),
    ("gateway", {"frontends": ["oip_grcp"]}, "expected one of health, metrics, oip_grpc"),
]


@pytest.mark.mesh
@pytest.mark.parametrize(("room", "settings", "named"), STARTING)
def test_what_is_seen_at_the_start_is_one_line(tmp_path, room, settings, named):
    file = tmp_path / f"{room}.yaml"
    file.write_text(yaml.safe_dump({"home": str(tmp_path), **settings} if room == "registry" else settings))
    environment = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "HOME")}
    done = subprocess.run(
        [sys.executable, "-m", f"infermesh.{room}", "--config", str(file)],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert last.startswith("infermesh: "), done.stderr
    assert named in last
    assert "hush" not in done.stderr
    assert "\nTraceback" not in f"\n{done.stderr}"
