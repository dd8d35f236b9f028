{{/* The URL of the store. */}}
{{- define "stenofleet.store" -}}
{{- printf "s3://%s/%s" .Values.s3.bucket (trimAll "/" .Values.s3.prefix) | trimSuffix "/" -}}
{{- end -}}

{{- define "stenofleet.toleration" -}}
{{- .key -}}
{{- if and (ne (default "Equal" .operator) "Exists") (hasKey . "value") -}}={{ .value }}{{- end -}}
{{- with .effect -}}:{{ . }}{{- end -}}
{{- end -}}

{{/* A number, or a word in its place. */}}
{{- define "stenofleet.wordOrNumber" -}}
{{- if kindIs "string" . -}}{{ . }}{{- else -}}{{ int64 . }}{{- end -}}
{{- end -}}

{{/* Every option of the service as STENOFLEET_<OPTION>: the values of the chart only become options, and the program makes
the Jobs. An empty one counts as not given. */}}
{{- define "stenofleet.settings" -}}
{{- $v := .Values -}}
{{- $s := dict
  "STENOFLEET_HOST" $v.server.host
  "STENOFLEET_PORT" "8080"
  "STENOFLEET_METRICS_PORT" (int64 $v.metrics.port)
  "STENOFLEET_TENANTS" "/etc/stenofleet/tenants/tenants.toml"
  "STENOFLEET_TRUSTED_HEADER" $v.server.trustedHeader
  "STENOFLEET_TRUSTED_PROXIES" (join " " $v.server.trustedProxies)
  "STENOFLEET_MAX_UPLOAD_MB" (int64 $v.server.maxUploadMB)
  "STENOFLEET_UPLOAD_ENDPOINT" $v.s3.publicEndpoint
  "STENOFLEET_LOG_FORMAT" $v.server.logFormat
  "STENOFLEET_SHUTDOWN_GRACE" (int64 $v.server.shutdownGraceSeconds)
-}}
{{- if $v.webhooks.existingSecret -}}
{{- $_ := set $s "STENOFLEET_WEBHOOK_KEYS" "/etc/stenofleet/webhooks/webhook-keys.toml" -}}
{{- end -}}
{{- if $v.inbox.enabled -}}
{{- $_ := set $s "STENOFLEET_INBOX" (default (printf "%s/inbox" (include "stenofleet.store" .)) $v.inbox.url) -}}
{{- $_ := set $s "STENOFLEET_OUTBOX" (default (printf "%s/outbox" (include "stenofleet.store" .)) $v.inbox.outboxUrl) -}}
{{- $_ := set $s "STENOFLEET_INBOX_POLL" (int64 $v.inbox.pollSeconds) -}}
{{- $_ := set $s "STENOFLEET_INBOX_LISTS" (int64 $v.inbox.listsPerMinute) -}}
{{- end -}}
{{- $store := dict
  "STENOFLEET_STORE" (include "stenofleet.store" .)
  "AWS_ENDPOINT_URL_S3" $v.s3.endpoint
  "AWS_REGION" $v.s3.region
  "STENOFLEET_S3_SECRET" (default "none" $v.s3.existingSecret)
  "STENOFLEET_S3_CA" (include "stenofleet.caConfigMap" .)
-}}
{{- $models := list -}}
{{- range $v.model.others -}}
{{- $models = append $models (include "stenofleet.modelReference" (dict "root" $ "name" .)) -}}
{{- end -}}
{{- $model := dict
  "STENOFLEET_MODEL" (include "stenofleet.modelReference" (dict "root" . "name" $v.model.name))
  "STENOFLEET_ALLOW_MODEL" (join " " $models)
  "STENOFLEET_MODEL_CLAIM" (include "stenofleet.modelClaim" .)
  "STENOFLEET_MODEL_IMAGE" (ternary $v.model.image "" (eq $v.model.source "image"))
  "STENOFLEET_MODEL_PATH" $v.model.path
  "STENOFLEET_KERNELS_IN_STORE" (ternary "true" "" $v.kernelCache.inStore)
-}}
{{- $decoding := dict
  "STENOFLEET_DEVICE" $v.device
  "STENOFLEET_LANGUAGE" $v.decoding.language
  "STENOFLEET_COMPUTE_TYPE" $v.decoding.computeType
  "STENOFLEET_BEAM_SIZE" (int64 $v.decoding.beamSize)
  "STENOFLEET_BATCH_SIZE" (include "stenofleet.wordOrNumber" $v.decoding.batchSize)
  "STENOFLEET_TEMPERATURE" $v.decoding.temperature
  "STENOFLEET_VAD_FILTER" (ternary "True" "False" $v.decoding.vadFilter)
  "STENOFLEET_CONDITION_ON_PREVIOUS_TEXT" (ternary "True" "False" $v.decoding.conditionOnPreviousText)
  "STENOFLEET_INITIAL_PROMPT" $v.decoding.initialPrompt
  "STENOFLEET_HOTWORDS" $v.decoding.hotwords
  "STENOFLEET_CHUNK_DURATION" (include "stenofleet.wordOrNumber" $v.chunking.duration)
  "STENOFLEET_CHUNKING_THRESHOLD" (int64 $v.chunking.thresholdSeconds)
  "STENOFLEET_RENDITION" (ternary "true" "" $v.playback.rendition)
  "STENOFLEET_GPU_HOUR_PRICE" ($v.prices.gpuHour | default "")
  "STENOFLEET_CPU_HOUR_PRICE" ($v.prices.cpuHour | default "")
-}}
{{- $selectors := list -}}
{{- range $key, $value := $v.jobs.nodeSelector -}}{{- $selectors = append $selectors (printf "%s=%s" $key $value) -}}{{- end -}}
{{- $tolerations := list -}}
{{- range $v.jobs.tolerations -}}{{- $tolerations = append $tolerations (include "stenofleet.toleration" .) -}}{{- end -}}
{{- $jobs := dict
  "STENOFLEET_RUNNER" "kubernetes"
  "STENOFLEET_CHUNK_IMAGE" (include "stenofleet.chunkJobImage" .)
  "STENOFLEET_INTAKE_IMAGE" (include "stenofleet.controllerImage" .)
  "STENOFLEET_IMAGE_PULL_POLICY" $v.image.pullPolicy
  "STENOFLEET_IMAGE_PULL_SECRET" (join " " $v.image.pullSecrets)
  "STENOFLEET_MAX_PARALLEL" (int64 $v.concurrency.maxParallel)
  "STENOFLEET_MAX_ATTEMPTS" (int64 $v.retry.maxAttempts)
  "STENOFLEET_MAX_DISRUPTIONS" (int64 $v.retry.maxDisruptions)
  "STENOFLEET_THREADS" (int64 $v.jobs.threads | default "")
  "STENOFLEET_GPU_RESOURCE" $v.gpu.resourceName
  "STENOFLEET_GPUS" (int64 $v.gpu.count | default "")
  "STENOFLEET_JOB_MEMORY" (int64 $v.jobs.memoryMiB | default "")
  "STENOFLEET_JOB_SCRATCH" (int64 $v.jobs.scratchMiB)
  "STENOFLEET_NODE_SELECTOR" (join " " $selectors)
  "STENOFLEET_TOLERATION" (join " " $tolerations)
  "STENOFLEET_PRIORITY_CLASS" $v.jobs.priorityClassName
  "STENOFLEET_RUNTIME_CLASS" $v.jobs.runtimeClassName
  "STENOFLEET_QUEUE" $v.kueue.localQueue
  "STENOFLEET_SERVICE_ACCOUNT" $v.jobs.serviceAccountName
-}}
{{- range $name, $value := merge $s $store $model $decoding $jobs }}
{{- if ne (toString $value) "" }}
{{ $name }}: {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* S3 for a container that does not read the settings. */}}
{{- define "stenofleet.s3Env" -}}
{{- with .Values.s3.endpoint }}
- name: AWS_ENDPOINT_URL_S3
  value: {{ include "stenofleet.literal" . }}
{{- end }}
{{- with .Values.s3.region }}
- name: AWS_REGION
  value: {{ include "stenofleet.literal" . }}
{{- end }}
{{ include "stenofleet.identityEnv" . }}
{{- end -}}

{{- define "stenofleet.identityEnv" -}}
{{- if .Values.s3.existingSecret -}}
# Credentials come from the Secret, never from the identity of the node.
- name: AWS_EC2_METADATA_DISABLED
  value: "true"
{{- end }}
{{- if include "stenofleet.caConfigMap" . }}
- name: AWS_CA_BUNDLE
  value: /etc/stenofleet-ca/ca.crt
{{- end }}
{{- end -}}
