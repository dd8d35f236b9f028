{{- define "stenofleet.modelClaim" -}}
{{- if ne .Values.model.source "image" -}}
{{- default (printf "%s-models" (include "stenofleet.fullname" .)) .Values.model.pvc.existingClaim -}}
{{- end -}}
{{- end -}}

{{/* Whether a Job fills the volume. Empty: no. */}}
{{- define "stenofleet.prefetches" -}}
{{- if and (ne .Values.model.source "image") .Values.model.prefetch.enabled -}}yes{{- end -}}
{{- end -}}

{{/* A model as jobs name it. Arguments: the root, and its name in the values. */}}
{{- define "stenofleet.modelReference" -}}
{{- if eq .root.Values.model.source "s3" -}}
{{- printf "%s/%s" (trimSuffix "/" .root.Values.model.path) .name -}}
{{- else -}}
{{- .name -}}
{{- end -}}
{{- end -}}

{{/* The Job's name has a hash of its pod: Jobs cannot be changed, and another model or image needs another Job. */}}
{{- define "stenofleet.modelJob" -}}
{{- include "stenofleet.fullname" . }}-model-{{ include "stenofleet.modelPod" . | sha256sum | trunc 8 }}
{{- end -}}

{{- define "stenofleet.modelResources" -}}
{{- if .Values.model.prefetch.resources -}}
{{- toYaml .Values.model.prefetch.resources -}}
{{- else -}}
{{- $memory := ternary "6Gi" "1Gi" (eq .Values.device "cuda") -}}
{{- $same := dict "memory" $memory "ephemeral-storage" "768Mi" -}}
{{- if eq .Values.device "cuda" -}}
{{- $_ := set $same .Values.gpu.resourceName (toString (int64 (default 1 .Values.gpu.count))) -}}
{{- end -}}
{{- toYaml (dict "requests" (merge (dict "cpu" "100m") $same) "limits" (merge (dict "cpu" "2") $same)) -}}
{{- end -}}
{{- end -}}

{{/* What all containers of the Job have. */}}
{{- define "stenofleet.modelContainer" -}}
image: {{ include "stenofleet.chunkJobImage" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources:
  {{- include "stenofleet.modelResources" . | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: models
    mountPath: {{ .Values.model.path }}
  - name: tmp
    mountPath: /tmp
{{- end -}}

{{- define "stenofleet.modelEnv" -}}
- name: HF_HUB_CACHE
  value: {{ include "stenofleet.literal" .Values.model.path }}
- name: HF_HOME
  value: /tmp/hub
- name: HOME
  value: /tmp
{{- with .Values.model.prefetch.hubEndpoint }}
- name: HF_ENDPOINT
  value: {{ include "stenofleet.literal" . }}
{{- end }}
{{- end -}}

{{/* Downloads the models that are not on the volume. Then it compiles the GPU's kernels to the volume: each chunk job
starts with a copy of them. Therefore it needs a GPU, on the nodes of chunk jobs. */}}
{{- define "stenofleet.modelPod" -}}
{{- $model := .Values.model -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.jobs.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- include "stenofleet.pullSecrets" . }}
securityContext:
  # A new volume belongs to root.
  {{- toYaml (merge (dict) .Values.podSecurityContext (dict "fsGroup" 10001 "fsGroupChangePolicy" "OnRootMismatch")) | nindent 2 }}
{{- with .Values.jobs.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.jobs.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
tolerations:
  - key: nvidia.com/gpu
    operator: Exists
    effect: NoSchedule
  {{- with .Values.jobs.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or (eq $model.source "s3") $model.others }}
initContainers:
  {{- if eq $model.source "s3" }}
  - name: fetch
    command: [tini, --, python, -P, /etc/stenofleet/fetch_model.py]
    args:
      - {{ include "stenofleet.literal" $model.s3.url }}
      - {{ include "stenofleet.literal" $model.path }}
      {{- range prepend $model.others $model.name }}
      - {{ include "stenofleet.literal" . }}
      {{- end }}
    {{- with .Values.s3.existingSecret }}
    envFrom:
      - secretRef:
          name: {{ . }}
    {{- end }}
    env:
      {{- include "stenofleet.s3Env" . | nindent 6 }}
      - name: HOME
        value: /tmp
    {{- include "stenofleet.modelContainer" . | nindent 4 }}
      - name: scripts
        mountPath: /etc/stenofleet
        readOnly: true
      {{- if include "stenofleet.caConfigMap" . }}
      - name: ca
        mountPath: /etc/stenofleet-ca
        readOnly: true
      {{- end }}
  {{- else }}
  {{- range $number, $name := $model.others }}
  - name: fetch-{{ $number }}
    command: [tini, --, python, -P, -m, chunk_job]
    args: [--resolve-model, {{ include "stenofleet.literal" $name }}, --download]
    env:
      {{- include "stenofleet.modelEnv" $ | nindent 6 }}
    {{- include "stenofleet.modelContainer" $ | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end }}
containers:
  - name: model
    command: [tini, --, python, -P, -m, chunk_job]
    # A GPU on which this fails or crashes does not fail the Job: chunk jobs compile the kernels themselves.
    args:
      - --compile-kernels
      - {{ include "stenofleet.literal" (printf "%s/.stenofleet-kernels" (trimSuffix "/" $model.path)) }}
      - {{ include "stenofleet.literal" (include "stenofleet.modelReference" (dict "root" . "name" $model.name)) }}
      {{- if eq $model.source "pvc" }}
      - --download
      {{- end }}
    env:
      {{- include "stenofleet.modelEnv" . | nindent 6 }}
    {{- include "stenofleet.modelContainer" . | nindent 4 }}
volumes:
  - name: models
    persistentVolumeClaim:
      claimName: {{ include "stenofleet.modelClaim" . }}
  - name: tmp
    emptyDir:
      sizeLimit: 640Mi
  {{- if eq $model.source "s3" }}
  - name: scripts
    configMap:
      name: {{ include "stenofleet.fullname" . }}-scripts
  {{- with include "stenofleet.caConfigMap" . }}
  - name: ca
    configMap:
      name: {{ . }}
  {{- end }}
  {{- end }}
{{- end -}}
