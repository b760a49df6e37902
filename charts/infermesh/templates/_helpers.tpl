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

{{/* At most 40 characters, so that <fullname>-worker-<pool> is still a DNS label; what is cut leaves a digest. */}}
{{- define "infermesh.fullname" -}}
{{- $name := include "infermesh.chartName" . -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if .Values.fullnameOverride -}}
{{- $full = .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- $full = .Release.Name -}}
{{- end -}}
{{- if gt (len $full) 40 -}}
{{- $full = printf "%s-%s" (trunc 33 $full | trimSuffix "-") (sha256sum $full | trunc 6) -}}
{{- end -}}
{{- $full -}}
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

{{/* What load balancers before the public ports are told that these speak. */}}
{{- define "infermesh.frontProtocol" -}}
{{- if .Values.tls.front.existingSecret }}https{{ else }}kubernetes.io/h2c{{ end }}
{{- end }}

{{/* The same of the ports inside the mesh. */}}
{{- define "infermesh.meshProtocol" -}}
{{- if or .Values.tls.existingSecret .Values.tls.certManager.enabled }}https{{ else }}kubernetes.io/h2c{{ end }}
{{- end }}

{{/* Name of the Secret with the component's certificate for the mesh; empty without TLS. */}}
{{- define "infermesh.tlsSecret" -}}
{{- $tls := .root.Values.tls -}}
{{- if $tls.certManager.enabled }}{{ include "infermesh.objectName" . }}-tls{{ else }}{{ $tls.existingSecret }}{{ end }}
{{- end }}

{{/* Not empty if some pool is scaled in this way; takes a list: root, mode. */}}
{{- define "infermesh.hasMode" -}}
{{- $root := index . 0 -}}
{{- $mode := index . 1 -}}
{{- range $pool, $own := $root.Values.pools -}}
{{- $values := include "infermesh.poolValues" (list $root $pool) | fromYaml -}}
{{- if eq $values.autoscaling.mode $mode }}{{ $pool }} {{ end -}}
{{- end -}}
{{- end }}

{{/*
Puts a map over another, which it changes; unlike mergeOverwrite it also takes over 0, false and null. Takes a list:
below, above.
*/}}
{{- define "infermesh.overlay" -}}
{{- $below := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $below $key)) -}}
{{- include "infermesh.overlay" (list (get $below $key) $value) -}}
{{- else -}}
{{- $_ := set $below $key $value -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The values of a pool as YAML: its own over those of `worker`. Takes a list: root, name. */}}
{{- define "infermesh.poolValues" -}}
{{- $root := index . 0 -}}
{{- $values := deepCopy $root.Values.worker -}}
{{- include "infermesh.overlay" (list $values (get $root.Values.pools (index . 1))) -}}
{{- toYaml $values -}}
{{- end }}
