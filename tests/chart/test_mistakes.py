"""Wrong values: helm refuses each, and says which key is meant.

What only a service itself can see (a database that is away, a device that is not there) is in
tests/mesh/test_start_mistakes.py.
"""

import re

import pytest

from tests.chart import helm

# what is set; what the message must name
UNKNOWN = [
    ({"gatway.replicas": 2}, "gatway"),
    ({"gateway.replica": 3}, "/gateway.*replica"),
    ({"image.tagg": "x"}, "/image.*tagg"),
    ({"gateway.image.tga": "x"}, "/gateway/image.*tga"),
    ({"gateway.config.drian": {"timeout": 5}}, "/gateway/config.*drian"),
    ({"gateway.config.limits.retry_bugdet": 1}, "/gateway/config/limits.*retry_bugdet"),
    ({"registry.config.hoem": "/x"}, "/registry/config.*hoem"),
    ({"registry.persistence.sise": "1Gi"}, "/registry/persistence.*sise"),
    ({"scheduler.config.placment": "spread"}, "/scheduler/config.*placment"),
    ({"worker.config.devise": "cpu"}, "/worker/config.*devise"),
    ({"pools.cpu.replica": 3}, "/pools/cpu.*replica"),
    ({"pools.cpu.config.cahce": "/x"}, "/pools/cpu/config.*cahce"),
    ({"pools.cpu.autoscaling.maximum": 3}, "/pools/cpu/autoscaling.*maximum"),
    ({"tls.exsitingSecret": "x"}, "/tls.*exsitingSecret"),
    ({"networkPolicy.client": []}, "/networkPolicy.*client"),
    ({"monitoring.prometheus": True}, "/monitoring.*prometheus"),
]
BAD = [
    ({"gateway.replicas": -1}, "/gateway/replicas"),
    ({"gateway.replicas": "two"}, "/gateway/replicas"),
    ({"registry.replicas": 0}, "/registry/replicas"),
    ({"scheduler.replicas": 0}, "/scheduler/replicas"),
    ({"pools.cpu.replicas": -2}, "/pools/cpu/replicas"),
    ({"pools.cpu.replicas": 1.5}, "/pools/cpu/replicas"),
    ({"worker.resources.requests.memory": "2Gib"}, "/worker/resources/requests/memory"),
    ({"gateway.resources.limits.cpu": "lots"}, "/gateway/resources/limits/cpu"),
    ({"registry.persistence.size": "10 GB"}, "/registry/persistence/size"),
    ({"image.pullPolicy": "Sometimes"}, "/image/pullPolicy"),
    ({"gateway.service.port": "http"}, "/gateway/service/port"),
    ({"gateway.service.port": 80800}, "/gateway/service/port"),
    ({"gateway.service.port": None}, "/gateway/service.*port"),
    ({"gateway.service.grpcPort": "grpc"}, "/gateway/service/grpcPort"),
    ({"gateway.service.grpcPort": 80810}, "/gateway/service/grpcPort"),
    ({"gateway.service.grpcPort": 0}, "/gateway/service/grpcPort"),
    ({"gateway.service.grpcPort": None}, "/gateway/service.*grpcPort"),
    ({"gateway.service.grpcNodePort": "any"}, "/gateway/service/grpcNodePort"),
    ({"gateway.service.type": "Ingress"}, "/gateway/service/type"),
    ({"gateway.config.log.level": "loud"}, "/gateway/config/log/level"),
    ({"worker.config.drain.timeout": "soon"}, "/worker/config/drain/timeout"),
    ({"gateway.config.telemetry.sample_ratio": 2}, "/gateway/config/telemetry/sample_ratio"),
    ({"pools.cpu.device": "gpu"}, "/pools/cpu/device"),
    ({"pools.CPU": {"device": "cpu"}}, "/pools.*CPU"),
    ({"pools": {"": {"device": "cpu"}}}, "/pools"),
    ({"pools": [{"name": "cpu"}]}, "/pools"),
    ({"pools.cpu.autoscaling.mode": "vpa"}, "/pools/cpu/autoscaling/mode"),
    ({"pools.cpu.autoscaling.mode": ["hpa", "keda"]}, "/pools/cpu/autoscaling/mode"),  # two autoscalers
    ({"registry.autoscaling.mode": "hpa"}, "/registry/autoscaling/mode"),
    ({"scheduler.autoscaling.mode": "keda"}, "/scheduler/autoscaling/mode"),
    ({"gateway.autoscaling.mode": "keda"}, "/gateway/autoscaling/mode"),
    ({"pools.cpu.nodeSelector.gpu": True}, "/pools/cpu/nodeSelector/gpu"),
    ({"gateway.extraEnv": {"A": "b"}}, "/gateway/extraEnv"),
    ({"fullnameOverride": "My_Mesh"}, "/fullnameOverride"),
    ({"networkPolicy.clients": {"app": "shop"}}, "/networkPolicy/clients"),
    ({"gateway.terminationGracePeriodSeconds": "1m"}, "/gateway/terminationGracePeriodSeconds"),
    ({"tls.certManager.enabled": "yes"}, "/tls/certManager/enabled"),
]
NOT_YOURS = [  # the chart computes these
    ({"gateway.config.listen": "0.0.0.0:80"}, "/gateway/config.*listen"),
    ({"gateway.config.grpc_listen": "0.0.0.0:81"}, "/gateway/config.*grpc_listen"),
    ({"gateway.config.scheduler": "x:1"}, "/gateway/config.*scheduler"),
    ({"worker.config.health_listen": "0.0.0.0:1"}, "/worker/config.*health_listen"),
    ({"worker.config.id": "a"}, "/worker/config.*id"),
    ({"pools.cpu.config.device": "cuda"}, "/pools/cpu/config.*device"),
    ({"pools.cpu.config.labels.pool": "x"}, r"pools\.cpu\.config\.labels\.pool"),
    ({"registry.config.database_url": "postgresql://me:secret@db/x"}, "/registry/config.*database_url"),
    ({"gateway.podLabels": {"app.kubernetes.io/component": "x"}}, r"gateway\.podLabels"),
]
TOGETHER = [
    ({"gateway.config.drain.timeout": 300}, r"gateway\.terminationGracePeriodSeconds.*gateway\.config\.drain\.timeout"),
    ({"registry.config.drain.timeout": 30}, r"registry\.terminationGracePeriodSeconds"),
    ({"scheduler.terminationGracePeriodSeconds": 5}, r"scheduler\.terminationGracePeriodSeconds"),
    ({"gateway.config.clients.max_address_age": 60}, r"gateway\.terminationGracePeriodSeconds.*max_address_age"),
    ({"gateway.config.drain.lame_duck": 40}, r"gateway\.terminationGracePeriodSeconds.*lame_duck"),
    ({"gateway.preStopSeconds": 60}, r"gateway\.terminationGracePeriodSeconds.*preStopSeconds"),
    ({"pools.cpu.config.drain.timeout": 200}, r"pools\.cpu\.terminationGracePeriodSeconds"),
    ({"registry.replicas": 2}, r"registry\.replicas.*registry\.database\.existingSecret"),
    ({"registry.replicas": 2, "registry.database.existingSecret": "x"}, r"registry\.persistence\.accessMode"),
    ({"pools.cpu.autoscaling": {"mode": "hpa", "min": 5, "max": 3}}, r"pools\.cpu\.autoscaling\.min.*max"),
    ({"pools.cpu.autoscaling": {"mode": "hpa", "min": 0}}, r"pools\.cpu\.autoscaling\.min"),
    ({"gateway.autoscaling": {"mode": "hpa", "min": 9}}, r"gateway\.autoscaling\.min.*max"),
    (
        {"pools.cpu.autoscaling.mode": "hpa", "worker.resources.requests": {"memory": "1Gi", "cpu": None}},
        r"pools\.cpu\.resources\.requests\.cpu.*autoscaling\.mode",
    ),
    (
        {"pools.cpu.autoscaling": {"mode": "keda", "target": {"queue_rows": 0, "utilization": 0, "wait": 0}}},
        r"pools\.cpu\.autoscaling\.target",
    ),
    ({"worker.pdb": {"maxUnavailable": 1, "minAvailable": 1}}, r"pools\.cpu\.pdb.*minAvailable"),
    ({"gateway.pdb.maxUnavailable": None}, r"gateway\.pdb"),
    ({"worker.strategy": {"maxSurge": 0, "maxUnavailable": 0}}, r"pools\.cpu\.strategy"),
    ({"tls": {"existingSecret": "x", "certManager": {"enabled": True, "issuerRef": {"name": "y"}}}}, "tls.*both"),
    ({"tls.certManager.enabled": True}, r"tls\.certManager\.issuerRef\.name"),
    ({"tls.front.clientAuthority": True}, r"tls\.front\.clientAuthority.*tls\.front\.existingSecret"),
    ({"gateway.service.nodePort": 30080}, r"gateway\.service\.nodePort.*gateway\.service\.type"),
    ({"gateway.service.grpcNodePort": 30081}, r"gateway\.service\.grpcNodePort.*gateway\.service\.type"),
    ({"gateway.service.grpcPort": 8080}, r"gateway\.service\.grpcPort.*gateway\.service\.port"),
    ({"gateway.service.port": 8081}, r"gateway\.service\.grpcPort.*gateway\.service\.port"),
    (
        {"gateway.service": {"type": "NodePort", "nodePort": 30080, "grpcNodePort": 30080}},
        r"gateway\.service\.grpcNodePort.*gateway\.service\.nodePort",
    ),
    ({"gateway.resources.limits.memory": "1Gi"}, r"gateway\.resources\.limits\.memory.*max_memory_bytes"),
]


def _ids(table):
    return [" ".join(f"{key}={value}" for key, value in settings.items())[:60] for settings, _ in table]


TABLE = [*UNKNOWN, *BAD, *NOT_YOURS, *TOGETHER]


@pytest.mark.parametrize(("settings", "named"), TABLE, ids=_ids(TABLE))
def test_a_mistake_is_refused_with_its_key(settings, named):
    with pytest.raises(helm.Refused) as refused:
        helm.template(*helm.values(**settings))
    said = str(refused.value)
    assert re.search(named, said.replace("\n", " ")), said
    assert "panic" not in said
    assert "nil pointer" not in said
    assert len(said) < 1_500, said


SECRETS = [
    (
        {"registry.database.existingSecret": "nowhere"},
        r"registry\.database\.existingSecret: there is no Secret nowhere",
    ),
    ({"tls.existingSecret": "nowhere"}, r"tls\.existingSecret: there is no Secret nowhere"),
    ({"tls.front.existingSecret": "nowhere"}, r"tls\.front\.existingSecret: there is no Secret nowhere"),
]


@pytest.mark.parametrize(("settings", "named"), SECRETS, ids=_ids(SECRETS))
def test_a_secret_that_is_missing_is_named_by_an_install(cluster, settings, named):
    with pytest.raises(helm.Refused, match=named):
        helm.helm("install", "mesh", helm.CHART, "--namespace", "default", "--dry-run=server", *helm.values(**settings))
