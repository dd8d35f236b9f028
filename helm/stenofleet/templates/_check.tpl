{{/* Refuses values that are right one by one, but cannot work together: the schema knows single values only. */}}
{{- define "stenofleet.check" -}}
{{- $v := .Values -}}
{{- $language := $v.decoding.language | trim | lower -}}
{{- $problems := list -}}
{{- if and (include "stenofleet.prefetches" .) (eq $v.model.source "s3") (not $v.model.s3.url) -}}
{{- $problems = append $problems "model.source is s3: set model.s3.url to the folder with the models, for example s3://media/models" -}}
{{- end -}}
{{- if and $v.server.trustedHeader (not $v.server.trustedProxies) -}}
{{- $problems = append $problems "server.trustedHeader: set server.trustedProxies to the networks of the proxy, or others could set the header" -}}
{{- end -}}
{{- if and $v.server.trustedProxies (not $v.server.trustedHeader) -}}
{{- $problems = append $problems "server.trustedProxies: set server.trustedHeader to the header in which the proxy puts the tenant" -}}
{{- end -}}
{{- if not (regexMatch (.Files.Get "files/languages.regex" | trim) $language) -}}
{{- $problems = append $problems (printf "decoding.language: Whisper knows no language %q; use a code like pt or a name like Portuguese" $v.decoding.language) -}}
{{- end -}}
{{- if and $v.tenants.existingSecret (or $v.tenants.default.sources $v.tenants.default.outputs) -}}
{{- $problems = append $problems (printf "tenants.default has no effect beside tenants.existingSecret: put sources and outputs into tenants.toml of the Secret %s, and set tenants.default.sources and tenants.default.outputs to []" $v.tenants.existingSecret) -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- $problems = append $problems "ingress.enabled: set ingress.host to the name that clients use, for example transcripts.example" -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- $problems = append $problems "httpRoute.enabled: set httpRoute.parentRefs to the gateway, for example [{name: public, namespace: gateway}]" -}}
{{- end -}}
{{- with $problems -}}
{{- fail (join "\n" (prepend . "these values cannot work:")) -}}
{{- end -}}
{{- end -}}
