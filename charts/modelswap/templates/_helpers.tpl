{{- define "modelswap.labels" -}}
app.kubernetes.io/name: modelswap
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: modelswap
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "modelswap.selector" -}}
app.kubernetes.io/name: modelswap
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "modelswap.cacheLabels" -}}
app.kubernetes.io/name: modelswap
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: artifact-cache
app.kubernetes.io/part-of: modelswap
{{- end }}

{{- define "modelswap.hookLabels" -}}
app.kubernetes.io/name: modelswap
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: retire
app.kubernetes.io/part-of: modelswap
{{- end }}

{{- /* An image by its digest, where one is given: it is what it was when it was looked at. */}}
{{- define "modelswap.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}

{{- define "modelswap.serviceAccount" -}}
{{ .Release.Name }}-operator
{{- end }}

{{- /* What the operator does in a namespace that it serves, and nothing else. A test compares it with the API server's audit log. */}}
{{- define "modelswap.rules" -}}
- apiGroups: [modelswap.dev]
  resources: [modelroutes]
  verbs: [list, watch]
# Patched for the finalizer of a version that a route leads to.
- apiGroups: [modelswap.dev]
  resources: [modelversions]
  verbs: [list, watch, patch]
- apiGroups: [modelswap.dev]
  resources: [modelversions/status, modelroutes/status]
  verbs: [patch]
# An owner reference that blocks its owner's deletion needs the right to set the owner's finalizers.
- apiGroups: [modelswap.dev]
  resources: [modelversions/finalizers, modelroutes/finalizers]
  verbs: [update]
# Children: what server-side apply makes needs both create and patch.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps, secrets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
# How much memory serving pods take, where the cluster has a metrics API.
- apiGroups: [metrics.k8s.io]
  resources: [pods]
  verbs: [list]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
