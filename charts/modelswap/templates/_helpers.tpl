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
