{{/*
Configuration files of the services: what the chart knows, under what the user says in `config`. Keys that the chart
computes are absent from the schema of `config`, so each setting has one owner.
*/}}

{{- define "infermesh.config" -}}
{{- $computed := include (printf "infermesh.config.%s" .component) . | fromYaml -}}
{{- $computed = mergeOverwrite $computed (include "infermesh.config.process" . | fromYaml) -}}
{{- mergeOverwrite $computed (deepCopy .values.config) | toYaml -}}
{{- end }}

{{- define "infermesh.config.process" -}}
health_listen: 0.0.0.0:8086
metrics_listen: 0.0.0.0:9090
{{- end }}

{{- define "infermesh.config.gateway" -}}
listen: 0.0.0.0:8080
scheduler: {{ include "infermesh.fullname" .root }}-scheduler:8301
registry: {{ include "infermesh.fullname" .root }}-registry:8302
state: /var/lib/infermesh
{{- end }}

{{- define "infermesh.config.registry" -}}
listen: 0.0.0.0:8302
home: /var/lib/infermesh
{{- end }}

{{- define "infermesh.config.scheduler" -}}
listen: 0.0.0.0:8301
registry: {{ include "infermesh.fullname" .root }}-registry:8302
{{- end }}

{{- define "infermesh.config.worker" -}}
listen: 0.0.0.0:8304
scheduler: {{ include "infermesh.fullname" .root }}-scheduler:8301
registry: {{ include "infermesh.fullname" .root }}-registry:8302
cache: /var/lib/infermesh
device: {{ .values.device }}
labels:
  pool: {{ .pool }}
{{- end }}
