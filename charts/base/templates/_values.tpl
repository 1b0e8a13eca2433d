{{/* What holds: the chart's defaults under the user's values. JSON; read it with fromJson. */}}
{{- define "base.values" -}}
{{- $values := deepCopy (get .Values "_internal_defaults_do_not_set") }}
{{- $values = mergeOverwrite $values (deepCopy (.Values.defaults | default dict)) }}
{{- mergeOverwrite $values (omit (deepCopy .Values) "_internal_defaults_do_not_set" "defaults") | toJson }}
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
