{{/* Combinations that no schema can refuse; every message names the keys. */}}

{{- define "infermesh.check" -}}
{{- $key := include "infermesh.valuesKey" . -}}
{{- include "infermesh.check.grace" (list . $key) -}}
{{- include "infermesh.check.autoscaling" (list . $key) -}}
{{- include "infermesh.check.labels" (list . $key) -}}
{{- if and (has (toString .values.strategy.maxSurge) (list "0" "0%")) (has (toString .values.strategy.maxUnavailable) (list "0" "0%")) -}}
{{- fail (printf "%s.strategy: expected maxSurge or maxUnavailable above 0, or no pod could ever be replaced" $key) -}}
{{- end -}}
{{- if and .values.pdb.enabled (eq (kindIs "invalid" .values.pdb.minAvailable) (kindIs "invalid" .values.pdb.maxUnavailable)) -}}
{{- fail (printf "%s.pdb: expected one of minAvailable and maxUnavailable, and null for the other" $key) -}}
{{- end -}}
{{- include (printf "infermesh.check.%s" .component) . -}}
{{- include "infermesh.check.tls" .root -}}
{{- end }}

{{/* A pod that is killed while it drains loses calls. */}}
{{- define "infermesh.check.grace" -}}
{{- $key := index . 1 -}}
{{- $v := (index . 0).values -}}
{{- $drain := dig "drain" dict $v.config -}}
{{- $needed := addf $v.preStopSeconds (dig "lame_duck" 0 $drain) (dig "timeout" 30 $drain) (dig "clients" "max_address_age" 0 $v.config) -}}
{{- if ge $needed (float64 $v.terminationGracePeriodSeconds) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds: expected more than %s.preStopSeconds + %s.config.drain.lame_duck + %s.config.drain.timeout%s = %v, got %v" $key $key $key $key (ternary (printf " + %s.config.clients.max_address_age" $key) "" (hasKey $v.config "clients")) $needed $v.terminationGracePeriodSeconds) -}}
{{- end -}}
{{- end }}

{{- define "infermesh.check.autoscaling" -}}
{{- $key := index . 1 -}}
{{- $v := (index . 0).values -}}
{{- with $v.autoscaling -}}
{{- if ne .mode "none" -}}
{{- if gt (int .min) (int .max) -}}
{{- fail (printf "%s.autoscaling.min: expected at most %s.autoscaling.max (%v), got %v" $key $key .max .min) -}}
{{- end -}}
{{- if eq .mode "hpa" -}}
{{- if lt (int .min) 1 -}}
{{- fail (printf "%s.autoscaling.min: expected at least 1 with mode hpa, got %v; keda and builtin go down to 0" $key .min) -}}
{{- end -}}
{{- if not (dig "requests" "cpu" "" $v.resources) -}}
{{- fail (printf "%s.resources.requests.cpu: expected a quantity, because %s.autoscaling.mode hpa counts in percent of it" $key $key) -}}
{{- end -}}
{{- else -}}
{{- with .target -}}
{{- if not (or .queue_rows .utilization .wait) -}}
{{- fail (printf "%s.autoscaling.target: expected one of queue_rows, utilization and wait above 0" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Labels that select pods are the chart's; so is that by which deployments find a pool. */}}
{{- define "infermesh.check.labels" -}}
{{- $c := index . 0 -}}
{{- $key := index . 1 -}}
{{- range $label, $_ := include "infermesh.labels" $c | fromYaml -}}
{{- if hasKey $c.values.podLabels $label -}}
{{- fail (printf "%s.podLabels: %s is set by the chart" $key $label) -}}
{{- end -}}
{{- end -}}
{{- if and $c.pool (hasKey (dig "labels" dict $c.values.config) "pool") -}}
{{- fail (printf "%s.config.labels.pool: the chart sets it, to the pool's name" $key) -}}
{{- end -}}
{{- end }}

{{- define "infermesh.check.gateway" -}}
{{- $service := .values.service -}}
{{- range $key, $first := dict "grpcPort" "port" "grpcNodePort" "nodePort" -}}
{{- $port := get $service $key -}}
{{- if and $port (eq (int $port) (int (get $service $first))) -}}
{{- fail (printf "gateway.service.%s: expected another than gateway.service.%s, got %v" $key $first $port) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "nodePort" "grpcNodePort" -}}
{{- with get $service $key -}}
{{- if eq $service.type "ClusterIP" -}}
{{- fail (printf "gateway.service.%s: gateway.service.type ClusterIP has none, got %v" $key .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "infermesh.check.secret" (list .root "tls.front.existingSecret" .root.Values.tls.front.existingSecret "tls.crt" "tls.key") -}}
{{- $limit := include "infermesh.bytes" (dig "limits" "memory" "" .values.resources) | float64 -}}
{{- $needed := addf (dig "max_memory_bytes" 2147483648 .values.config) 268435456 -}}
{{- if and $limit (lt $limit $needed) -}}
{{- fail (printf "gateway.resources.limits.memory: expected at least gateway.config.max_memory_bytes and 256Mi (%.0f bytes), got %.0f" $needed $limit) -}}
{{- end -}}
{{- end }}

{{- define "infermesh.check.registry" -}}
{{- $v := .values -}}
{{- if gt (int $v.replicas) 1 -}}
{{- if not $v.database.existingSecret -}}
{{- fail (printf "registry.replicas: expected 1 without registry.database.existingSecret (SQLite has one writer), got %v" $v.replicas) -}}
{{- end -}}
{{- if not (or (dig "artifacts" "" $v.config) (and $v.persistence.enabled (eq $v.persistence.accessMode "ReadWriteMany"))) -}}
{{- fail "registry.replicas: more than 1 need files that all reach: registry.persistence.accessMode ReadWriteMany, or another store in registry.config.artifacts" -}}
{{- end -}}
{{- end -}}
{{- include "infermesh.check.secret" (list .root "registry.database.existingSecret" $v.database.existingSecret $v.database.key) -}}
{{- end }}

{{- define "infermesh.check.scheduler" -}}{{- end }}

{{- define "infermesh.check.worker" -}}{{- end }}

{{- define "infermesh.check.tls" -}}
{{- with .Values.tls -}}
{{- if and .existingSecret .certManager.enabled -}}
{{- fail "tls: expected existingSecret or certManager.enabled, got both" -}}
{{- end -}}
{{- if and .certManager.enabled (not .certManager.issuerRef.name) -}}
{{- fail "tls.certManager.issuerRef.name: expected the name of an issuer" -}}
{{- end -}}
{{- if and .front.clientAuthority (not .front.existingSecret) -}}
{{- fail "tls.front.clientAuthority: clients can't be asked for certificates without tls.front.existingSecret" -}}
{{- end -}}
{{- end -}}
{{- include "infermesh.check.secret" (list . "tls.existingSecret" .Values.tls.existingSecret "tls.crt" "tls.key" "ca.crt") -}}
{{- end }}

{{/*
A Secret that is named must be there, or pods would wait for it without a word. Takes a list: root, the key that names
it, its name, and the keys in it. Asks only a cluster that answers: `helm template` has none.
*/}}
{{- define "infermesh.check.secret" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- $name := index . 2 -}}
{{- $namespace := $root.Release.Namespace -}}
{{- if and $name (lookup "v1" "ConfigMap" $namespace "kube-root-ca.crt") -}}
{{- $secret := lookup "v1" "Secret" $namespace $name -}}
{{- if not $secret -}}
{{- fail (printf "%s: there is no Secret %s in namespace %s" $key $name $namespace) -}}
{{- end -}}
{{- range slice . 3 -}}
{{- if not (hasKey ($secret.data | default dict) .) -}}
{{- fail (printf "%s: Secret %s has no key %s" $key $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A quantity of memory in bytes; 0 for none. */}}
{{- define "infermesh.bytes" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $text := kindIs "float64" . | ternary (printf "%.0f" (float64 .)) (toString .) -}}
{{- mulf (regexFind "^[0-9.]+" $text | default "0" | float64) (get $units (regexFind "[A-Za-z]*$" $text) | default 1) -}}
{{- end }}
