{{/* Combinations that no schema can refuse; every message names the keys. */}}

{{- define "infermesh.check" -}}
{{- include "infermesh.check.grace" . -}}
{{- end }}

{{/* A pod that is killed while it drains loses calls. */}}
{{- define "infermesh.check.grace" -}}
{{- $key := include "infermesh.valuesKey" . -}}
{{- $drain := dig "drain" dict .values.config -}}
{{- $needed := addf .values.preStopSeconds (dig "lame_duck" 0 $drain) (dig "timeout" 30 $drain) -}}
{{- if ge $needed (float64 .values.terminationGracePeriodSeconds) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds: expected more than %s.preStopSeconds + %s.config.drain.lame_duck + %s.config.drain.timeout = %v, got %v" $key $key $key $key $needed .values.terminationGracePeriodSeconds) -}}
{{- end -}}
{{- end }}
