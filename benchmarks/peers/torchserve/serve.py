"""TorchServe: its Java front, one Python worker, float32 bytes in and out, batching. Needs a Java 17 runtime.

Logs only warnings: by default it writes a dozen lines for each request.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

CONFIGURATION = """\
inference_address=http://127.0.0.1:{}
management_address=http://127.0.0.1:{}
metrics_address=http://127.0.0.1:{}
grpc_inference_port={}
grpc_management_port={}
disable_token_authorization=true
disable_system_metrics=true
metrics_mode=prometheus
vmargs=-Dlog4j.configurationFile=log4j2.xml
default_response_timeout=30
job_queue_size=1024
models={{"mlp": {{"1.0": {{"marName": "mlp.mar", "minWorkers": 1, "maxWorkers": 1, \
  "batchSize": 64, "maxBatchDelay": 1}}}}}}
"""

LOGGING = """\
<Configuration>
  <Appenders><Console name="console"><PatternLayout pattern="%p %c %m%n"/></Console></Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
"""

if __name__ == "__main__":
    if shutil.which("java") is None:
        sys.exit("ERROR: java is missing; it is in the Debian package openjdk-17-jre-headless")
    archive = ["--model-name", "mlp", "--version", "1.0", "--handler", str(HERE / "handler.py"), "--export-path", "."]
    subprocess.run(["torch-model-archiver", *archive], check=True)
    Path("config.properties").write_text(CONFIGURATION.format(*sys.argv[1:]))
    Path("log4j2.xml").write_text(LOGGING)
    options = ["--foreground", "--ncs", "--model-store", ".", "--models", "mlp=mlp.mar", "--ts-config"]
    os.execvp("torchserve", ["torchserve", "--start", *options, "config.properties"])
