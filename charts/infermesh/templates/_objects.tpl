{{/* Objects that every component has, whole. They take the usual context. */}}

{{- define "infermesh.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "infermesh.metadata" . | nindent 2 }}
  {{- with .values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}

{{- define "infermesh.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "infermesh.metadata" . | nindent 2 }}
data:
  {{ .component }}.yaml: |
    {{- include "infermesh.config" . | nindent 4 }}
{{- end }}

{{/* A headless Service; takes `port`, `grpcPort` if gRPC has one of its own, and `protocol` if that is not the mesh's. */}}
{{- define "infermesh.headlessService" -}}
{{- $protocol := .protocol | default (include "infermesh.meshProtocol" .root) -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "infermesh.metadata" . | nindent 2 }}
  {{- with .values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  clusterIP: None
  selector:
    {{- include "infermesh.selectorLabels" . | nindent 4 }}
  ports:
    - name: grpc
      port: {{ .port }}
      targetPort: grpc
      appProtocol: {{ $protocol }}
    {{- with .grpcPort }}
    - name: grpc-port
      port: {{ . }}
      targetPort: grpc-port
      appProtocol: {{ $protocol }}
    {{- end }}
    - name: metrics
      port: 9090
      targetPort: metrics
{{- end }}

{{- define "infermesh.pdb" -}}
{{- with .values.pdb }}
{{- if .enabled }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "infermesh.metadata" $ | nindent 2 }}
spec:
  {{- if kindIs "invalid" .minAvailable }}
  maxUnavailable: {{ .maxUnavailable }}
  {{- else }}
  minAvailable: {{ .minAvailable }}
  {{- end }}
  # a pod that is not ready protects nobody, and must not hold up a drain
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "infermesh.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "infermesh.hpa" -}}
{{- with .values.autoscaling }}
{{- if eq .mode "hpa" }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "infermesh.metadata" $ | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "infermesh.objectName" $ }}
  minReplicas: {{ .min }}
  maxReplicas: {{ .max }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .cpu }}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: {{ .scale_down_delay }}
{{- end }}
{{- end }}
{{- end }}

{{- define "infermesh.serviceMonitor" -}}
{{- $monitor := .root.Values.monitoring.serviceMonitor -}}
{{- if and $monitor.enabled .values.serviceMonitor.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "infermesh.metadata" . | nindent 2 }}
    {{- with $monitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  jobLabel: app.kubernetes.io/component
  selector:
    matchLabels:
      {{- include "infermesh.selectorLabels" . | nindent 6 }}
  namespaceSelector:
    matchNames: [{{ .root.Release.Namespace }}]
  endpoints:
    - port: metrics
      interval: {{ $monitor.interval }}
{{- end }}
{{- end }}

{{/* A certificate of the component's own. Each carries the name that all members of the mesh expect of each other. */}}
{{- define "infermesh.certificate" -}}
{{- with .root.Values.tls.certManager }}
{{- if .enabled }}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  {{- include "infermesh.metadata" $ | nindent 2 }}
spec:
  secretName: {{ include "infermesh.tlsSecret" $ }}
  commonName: {{ include "infermesh.objectName" $ }}
  dnsNames:
    - infermesh
    - {{ include "infermesh.objectName" $ }}
    - {{ include "infermesh.objectName" $ }}.{{ $.root.Release.Namespace }}.svc
  usages: [digital signature, key encipherment, server auth, client auth]
  duration: {{ .duration }}
  renewBefore: {{ .renewBefore }}
  privateKey:
    algorithm: ECDSA
    size: 256
    rotationPolicy: Always
  issuerRef:
    {{- toYaml .issuerRef | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}
