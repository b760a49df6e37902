{{/*
The Deployment of a component, complete. Beside the usual context it takes `own`: what only this component has (env,
ports, volumes, volumeMounts), and `recreate` for a strategy without overlap.
*/}}

{{- define "infermesh.deployment" -}}
{{- include "infermesh.check" . -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "infermesh.metadata" . | nindent 2 }}
spec:
  {{- if eq (include "infermesh.replicasOwner" .) "chart" }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  minReadySeconds: {{ .values.minReadySeconds }}
  strategy:
    {{- if .own.recreate }}
    type: Recreate
    {{- else }}
    type: RollingUpdate
    rollingUpdate:
      {{- toYaml .values.strategy | nindent 6 }}
    {{- end }}
  selector:
    matchLabels:
      {{- include "infermesh.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      annotations:
        checksum/config: {{ include "infermesh.config" . | sha256sum }}
        {{- with .values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      labels:
        {{- with .values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "infermesh.labels" . | nindent 8 }}
    spec:
      {{- include "infermesh.podSpec" . | nindent 6 }}
{{- end }}

{{/* Who says how many pods there are: the chart, or an autoscaler. */}}
{{- define "infermesh.replicasOwner" -}}
{{- if has (dig "mode" "none" .values.autoscaling) (list "hpa" "keda" "builtin") }}autoscaler{{ else }}chart{{ end }}
{{- end }}

{{- define "infermesh.podSpec" -}}
serviceAccountName: {{ include "infermesh.objectName" . }}
automountServiceAccountToken: {{ .own.apiAccess | default false }}
# variables like INFERMESH_WORKER_CPU_PORT would be taken for settings
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
securityContext:
  {{- toYaml .values.securityContext.pod | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
containers:
  - name: {{ .component }}
    {{- include "infermesh.container" . | nindent 4 }}
volumes:
  - name: config
    configMap:
      name: {{ include "infermesh.objectName" . }}
  - name: tmp
    emptyDir: {}
  {{- with include "infermesh.tlsSecret" . }}
  - name: tls
    secret:
      secretName: {{ . }}
      defaultMode: 0440
  {{- end }}
  {{- range list .own.volumes .values.extraVolumes }}
  {{- with . }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
{{- include "infermesh.placement" . }}
{{- end }}

{{- define "infermesh.container" -}}
image: {{ include "infermesh.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [--config, /etc/infermesh/{{ .component }}.yaml]
{{- $env := concat (.own.env | default list) (.values.extraEnv | default list) }}
{{- with $env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  {{- toYaml .own.ports | nindent 2 }}
  - name: health
    containerPort: 8086
  - name: metrics
    containerPort: 9090
{{- include "infermesh.probes" . }}
{{- with .values.preStopSeconds }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
securityContext:
  {{- toYaml .values.securityContext.container | nindent 2 }}
volumeMounts:
  - name: config
    mountPath: /etc/infermesh
    readOnly: true
  - name: tmp
    mountPath: /tmp
  {{- if include "infermesh.tlsSecret" . }}
  - name: tls
    mountPath: /etc/infermesh-tls
    readOnly: true
  {{- end }}
  {{- range list .own.volumeMounts .values.extraVolumeMounts }}
  {{- with . }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
{{- end }}

{{/* Health has a plaintext port of its own, so that the kubelet can ask whatever TLS the mesh uses. */}}
{{- define "infermesh.probes" }}
startupProbe:
  grpc:
    port: 8086
    service: liveness
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 120
readinessProbe:
  grpc:
    port: 8086
    service: readiness
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  grpc:
    port: 8086
    service: liveness
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}

{{/* Where pods go: across nodes, and away from a dead one before the 300 s of Kubernetes' default are over. */}}
{{- define "infermesh.placement" }}
tolerations:
  - key: node.kubernetes.io/not-ready
    operator: Exists
    effect: NoExecute
    tolerationSeconds: {{ .values.nodeLossSeconds }}
  - key: node.kubernetes.io/unreachable
    operator: Exists
    effect: NoExecute
    tolerationSeconds: {{ .values.nodeLossSeconds }}
  {{- with .values.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.topologySpread }}
topologySpreadConstraints:
  {{- range . }}
  - labelSelector:
      matchLabels:
        {{- include "infermesh.selectorLabels" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
