{{/*
Configuration files of the services: what the chart knows, under what the user says in `config`. Keys that the chart
computes are absent from the schema of `config`, so each setting has one owner.
*/}}

{{- define "infermesh.config" -}}
{{- $computed := include (printf "infermesh.config.%s" .component) . | fromYaml -}}
{{- include "infermesh.overlay" (list $computed (include "infermesh.config.process" . | fromYaml)) -}}
{{- include "infermesh.overlay" (list $computed .values.config) -}}
{{- toYaml $computed -}}
{{- end }}

{{- define "infermesh.config.process" -}}
health_listen: 0.0.0.0:8086
metrics_listen: 0.0.0.0:9090
{{- if include "infermesh.tlsSecret" . }}
tls:
  cert: /etc/infermesh-tls/tls.crt
  key: /etc/infermesh-tls/tls.key
  ca: /etc/infermesh-tls/ca.crt
{{- end }}
{{- end }}

{{- define "infermesh.config.gateway" -}}
listen: 0.0.0.0:8080
grpc_listen: 0.0.0.0:8081
scheduler: {{ include "infermesh.fullname" .root }}-scheduler:8301
registry: {{ include "infermesh.fullname" .root }}-registry:8302
state: /var/lib/infermesh
{{- with .root.Values.tls.front }}
{{- if .existingSecret }}
front_tls:
  cert: /etc/infermesh-front-tls/tls.crt
  key: /etc/infermesh-front-tls/tls.key
  {{- if .clientAuthority }}
  client_ca: /etc/infermesh-front-tls/ca.crt
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "infermesh.config.registry" -}}
listen: 0.0.0.0:8302
home: /var/lib/infermesh
{{- end }}

{{- define "infermesh.config.scheduler" -}}
listen: 0.0.0.0:8301
registry: {{ include "infermesh.fullname" .root }}-registry:8302
leadership: lease
lease:
  name: {{ include "infermesh.objectName" . }}
scaler_listen: 0.0.0.0:8303
{{- with .root.Values.pools }}
pools:
  {{- range $pool, $_ := . }}
  {{ $pool }}:
    {{- include "infermesh.config.pool" (list $.root $pool) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "infermesh.config.worker" -}}
listen: 0.0.0.0:8304
bundle_listen: 0.0.0.0:8305
scheduler: {{ include "infermesh.fullname" .root }}-scheduler:8301
registry: {{ include "infermesh.fullname" .root }}-registry:8302
cache: /var/lib/infermesh
device: {{ .values.device | default "auto" }}
labels:
  pool: {{ .pool }}
{{- end }}

{{/* What the scheduler is told about a pool; takes a list: root, name. */}}
{{- define "infermesh.config.pool" -}}
{{- $values := include "infermesh.poolValues" . | fromYaml -}}
autoscaling: {{ $values.autoscaling.mode }}
{{- omit $values.autoscaling "mode" "cpu" | toYaml | nindent 0 }}
workload: {{ include "infermesh.fullname" (index . 0) }}-worker-{{ index . 1 }}
{{- with $values.device }}
{{- if ne . "auto" }}
device: {{ splitList ":" . | first }}
{{- end }}
{{- end }}
{{- end }}
