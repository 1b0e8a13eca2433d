{{/* What holds: the chart's defaults under the user's values. JSON; read it with fromJson. */}}
{{- define "base.values" -}}
{{- $known := get .Values "_internal_defaults_do_not_set" | toJson | fromJson }}
{{- $values := deepCopy $known }}
{{- $parts := dict "values" (pick .Values "defaults") "known" (dict "defaults" dict) "open" list "path" "" }}
{{- $_ := include "istio.kinds" $parts }}
{{- range $layer := list (.Values.defaults | default dict) (omit .Values "_internal_defaults_do_not_set" "defaults") }}
{{- $said := dict "values" $layer "known" $known "open" list "path" "" }}
{{- $values = mergeOverwrite $values (include "istio.kinds" $said | fromJson) }}
{{- end }}
{{- if not (kindIs "string" ($values.defaultRevision | default "")) }}
{{- fail (printf "defaultRevision must be a text, not %s: put it in quotes" ($values.defaultRevision | toJson)) }}
{{- end }}
{{- $values | toJson }}
{{- end }}

{{- define "base.labels" -}}
app: istiod
release: {{ .Release.Name | toJson }}
app.kubernetes.io/name: istiod
app.kubernetes.io/instance: {{ .Release.Name | toJson }}
app.kubernetes.io/version: {{ .Chart.AppVersion | toJson }}
app.kubernetes.io/managed-by: {{ .Release.Service | toJson }}
app.kubernetes.io/part-of: istio
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | toJson }}
{{- end }}

{{/* Findings of values, one a line, as in the chart istiod. Takes dict values, known, inert, path. */}}
{{- define "base.findings" -}}
{{- $path := .path }}
{{- $known := .known }}
{{- $inert := .inert }}
{{- range $key, $value := .values }}
{{- $here := ternary $key (printf "%s.%s" $path $key) (eq $path "") }}
{{- $inner := get $known $key }}
{{- if hasKey $inert $here }}
{{- $entry := get $inert $here }}
{{- if ne ($value | toJson) ($entry.default | toJson) }}
{{ $here }}: {{ $entry.why }}
{{- end }}
{{- else if and (kindIs "map" $value) (or (kindIs "map" $inner) (eq $here "experimental")) }}
{{- include "base.findings" (dict "values" $value "known" ($inner | default dict) "inert" $inert "path" $here) }}
{{- else if not (hasKey $known $key) }}
{{ $here }}: no value of this name is known, or it concerns another chart
{{- end }}
{{- end }}
{{- end }}
