{{/* NetworkPolicies: which path exists. A pod that one of them selects has no other path, in or out. */}}

{{/* The policy of a component; takes `own`, with lists `ingress` and `egress`. */}}
{{- define "infermesh.networkPolicy" -}}
{{- $all := .root.Values.networkPolicy -}}
{{- if $all.enabled }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "infermesh.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "infermesh.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- with concat (.own.ingress | default list) (.values.networkPolicy.ingress | default list) }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $all.monitoring }}
    - from:
        {{- toYaml . | nindent 8 }}
      ports:
        - port: 9090
    {{- end }}
  egress:
    {{- with concat (.own.egress | default list) (.values.networkPolicy.egress | default list) }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "infermesh.dnsRule" .root | nindent 4 }}
{{- end }}
{{- end }}

{{- define "infermesh.dnsRule" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{/* One path. Takes a list: root, `from` or `to`, port, and the components at the other end. */}}
{{- define "infermesh.path" -}}
{{- $root := index . 0 -}}
- {{ index . 1 }}:
    {{- range slice . 3 }}
    - podSelector:
        matchLabels:
          {{- include "infermesh.selectorLabels" (dict "root" $root "component" .) | nindent 10 }}
    {{- end }}
  ports:
    - port: {{ index . 2 }}
{{- end }}
