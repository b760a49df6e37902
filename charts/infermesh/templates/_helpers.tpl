{{/*
Names, labels and images. Most helpers take a context that a template of a service makes:
  root       the chart's own context
  component  gateway, registry, scheduler or worker
  pool       name of the worker pool; absent elsewhere
  values     the component's values; of a pool: `worker`, with the pool's own over it
*/}}

{{- define "infermesh.chartName" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* 40 characters, so that <fullname>-worker-<pool> is still a DNS label */}}
{{- define "infermesh.fullname" -}}
{{- $name := include "infermesh.chartName" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "infermesh.objectName" -}}
{{- include "infermesh.fullname" .root }}-{{ .component }}{{ with .pool }}-{{ . }}{{ end }}
{{- end }}

{{/* Where the values of a component are, for messages. */}}
{{- define "infermesh.valuesKey" -}}
{{- if .pool }}pools.{{ .pool }}{{ else }}{{ .component }}{{ end }}
{{- end }}

{{- define "infermesh.selectorLabels" -}}
app.kubernetes.io/name: {{ include "infermesh.chartName" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
infermesh.io/pool: {{ . }}
{{- end }}
{{- end }}

{{- define "infermesh.labels" -}}
{{ include "infermesh.selectorLabels" . }}
app.kubernetes.io/version: {{ include "infermesh.tag" . | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: infermesh
{{- end }}

{{/* Name, namespace and labels of the component's main objects; takes `suffix` for a further one. */}}
{{- define "infermesh.metadata" -}}
name: {{ include "infermesh.objectName" . }}{{ .suffix }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "infermesh.labels" . | nindent 2 }}
{{- end }}

{{- define "infermesh.tag" -}}
{{- .values.image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- end }}

{{- define "infermesh.image" -}}
{{- $repository := .values.image.repository | default (printf "infermesh-%s" .component) -}}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $repository }}:{{ include "infermesh.tag" . }}
{{- end }}
