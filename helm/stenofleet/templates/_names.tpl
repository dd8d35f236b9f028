{{/* The prefix of all names: 40 characters, so that the longest suffix fits. */}}
{{- define "stenofleet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "stenofleet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "stenofleet.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "stenofleet.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels that select pods: they never change. */}}
{{- define "stenofleet.selector" -}}
app.kubernetes.io/name: {{ include "stenofleet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stenofleet.labels" -}}
{{ include "stenofleet.selector" . }}
app.kubernetes.io/part-of: stenofleet
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of an object. Arguments: the root, a suffix of the name, a component, its own annotations. */}}
{{- define "stenofleet.metadata" -}}
{{- $root := .root -}}
metadata:
  name: {{ include "stenofleet.fullname" $root }}{{ with .suffix }}-{{ . }}{{ end }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "stenofleet.labels" $root | nindent 4 }}
    {{- with .component }}
    app.kubernetes.io/component: {{ . }}
    {{- end }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with merge (dict) (default (dict) .annotations) $root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* The names that the label app.kubernetes.io/name has: on the chart's pods, and on the jobs of the service. */}}
{{- define "stenofleet.allNames" -}}
{{- list "stenofleet" (include "stenofleet.name" .) | uniq | toJson -}}
{{- end -}}

{{/* An image. Arguments: the root, and one of `image`. */}}
{{- define "stenofleet.image" -}}
{{- $image := .image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest -}}@{{ $image.digest }}{{- else -}}:{{ default .root.Chart.AppVersion $image.tag }}{{- end -}}
{{- end -}}

{{- define "stenofleet.controllerImage" -}}
{{- include "stenofleet.image" (dict "root" . "image" .Values.image.controller) -}}
{{- end -}}

{{- define "stenofleet.chunkJobImage" -}}
{{- include "stenofleet.image" (dict "root" . "image" .Values.image.chunkJob) -}}
{{- end -}}

{{- define "stenofleet.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "stenofleet.caConfigMap" -}}
{{- with .Values.s3.caBundle -}}
{{- if .existingConfigMap -}}{{ .existingConfigMap }}{{- else if .pem -}}{{ include "stenofleet.fullname" $ }}-ca{{- end -}}
{{- end -}}
{{- end -}}

{{- define "stenofleet.tenantsSecret" -}}
{{- default (printf "%s-tenants" (include "stenofleet.fullname" .)) .Values.tenants.existingSecret -}}
{{- end -}}

{{/* The Secret with the token of `helm test`; empty: there is none. */}}
{{- define "stenofleet.testSecret" -}}
{{- if .Values.tests.existingSecret -}}{{ .Values.tests.existingSecret }}
{{- else if not .Values.tenants.existingSecret -}}{{ include "stenofleet.fullname" . }}-token
{{- end -}}
{{- end -}}

{{/* A text in `args` or `env`: Kubernetes replaces $(NAME) there. */}}
{{- define "stenofleet.literal" -}}
{{- . | replace "$" "$$" | quote -}}
{{- end -}}
