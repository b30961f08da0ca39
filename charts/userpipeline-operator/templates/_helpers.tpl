{{- define "userpipeline-operator.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-operator" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "userpipeline-operator.selector" -}}
app.kubernetes.io/name: userpipeline-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "userpipeline-operator.labels" -}}
{{ include "userpipeline-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "userpipeline-operator.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What the operator may do where it looks after pipelines: no more than it does, and nothing with Secrets. */}}
{{- define "userpipeline-operator.rules" -}}
- apiGroups: [userpipeline.dev]
  resources: [userpipelines, userpipelineconnections, userpipelinebackfills]
  verbs: [get, list, watch]
- apiGroups: [userpipeline.dev]
  resources: [userpipelines/status, userpipelineconnections/status, userpipelinebackfills/status]
  verbs: [patch]
# Owner references with blockOwnerDeletion, where the OwnerReferencesPermissionEnforcement admission plugin is on.
- apiGroups: [userpipeline.dev]
  resources: [userpipelines/finalizers, userpipelineconnections/finalizers, userpipelinebackfills/finalizers]
  verbs: [update]
# The finalizer of spec.deletionPolicy: Delete.
- apiGroups: [userpipeline.dev]
  resources: [userpipelines]
  verbs: [patch]
# These come and go with each change of the spec, ...
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# ... and these only with the pipeline.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Which workers are pods of a pipeline's own Deployment.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Why the API server refuses the pods of a Job.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- end }}
