{{/*
What holds: the chart's defaults, a profile, then the user's values, which win. JSON; read it with fromJson.
Values come in three forms: as here, under `defaults` (Istio 1.22 and 1.23), and pilot's at the top (later ones).
*/}}
{{- define "istiod.values" -}}
{{- $values := deepCopy (get .Values "_internal_defaults_do_not_set") }}
{{- $pilot := keys $values.pilot }}
{{- $layers := list (include "istiod.profile" . | fromJson) (.Values.defaults | default dict) .Values }}
{{- range $layer := $layers }}
{{- $values = mergeOverwrite $values (include "istiod.layer" (dict "layer" $layer "pilot" $pilot) | fromJson) }}
{{- end }}
{{- $_ := set $values.global "platform" ($values.global.platform | default $values.platform) }}
{{- $values | toJson }}
{{- end }}

{{/* One layer of values with what belongs to pilot under `pilot`, and without what only steers the reading. */}}
{{- define "istiod.layer" -}}
{{- $layer := omit (deepCopy .layer) "_internal_defaults_do_not_set" "defaults" "profile" }}
{{- $own := dict }}
{{- range $key := .pilot }}
{{- if hasKey $layer $key }}
{{- $_ := set $own $key (get $layer $key) }}
{{- $_ := unset $layer $key }}
{{- end }}
{{- end }}
{{- if or $own $layer.pilot }}
{{- $_ := set $layer "pilot" (mergeOverwrite $own ($layer.pilot | default dict)) }}
{{- end }}
{{- $layer | toJson }}
{{- end }}

{{/* The profile's values; no profile is one without any. */}}
{{- define "istiod.profile" -}}
{{- $name := .Values.profile | default ((.Values.global).profile) | default "default" }}
{{- $file := printf "files/profile-%s.yaml" $name }}
{{- $text := .Files.Get $file }}
{{- if not $text }}
{{- fail (printf "profile: there is no profile %s; known are default, demo, empty and minimal" ($name | toJson)) }}
{{- end }}
{{- $text | fromYaml | toJson }}
{{- end }}

{{/*
Findings of a user's values, one a line: those that are known and have no effect here, and those that nobody knows.
A known one with Istio's default is no finding, so that a copy of Istio's whole values.yaml loads in silence.
Takes dict values, known, inert, open (paths whose insides others judge), path.
*/}}
{{- define "istiod.findings" -}}
{{- $path := .path }}
{{- $known := .known }}
{{- $inert := .inert }}
{{- range $key, $value := .values }}
{{- $here := ternary $key (printf "%s.%s" $path $key) (eq $path "") }}
{{- if hasKey $inert $here }}
{{- $entry := get $inert $here }}
{{- if ne ($value | toJson) ($entry.default | toJson) }}
{{ $here }}: {{ $entry.why }}
{{- end }}
{{- else if not (hasKey $known $key) }}
{{- if and (kindIs "map" $value) (include "istiod.inside" (dict "inert" $inert "path" $here)) }}
{{- include "istiod.findings" (dict "values" $value "known" dict "inert" $inert "open" $.open "path" $here) }}
{{- else }}
{{ $here }}: no value of this name is known
{{- end }}
{{- else }}
{{- $inner := get $known $key }}
{{- if and (kindIs "map" $value) (kindIs "map" $inner) $inner (not (has $here $.open)) }}
{{- include "istiod.findings" (dict "values" $value "known" $inner "inert" $inert "open" $.open "path" $here) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Not empty where a value below this path is known to have no effect. */}}
{{- define "istiod.inside" -}}
{{- $prefix := printf "%s." .path }}
{{- range $path, $_ := .inert }}
{{- if hasPrefix $prefix $path }}x{{ end }}
{{- end }}
{{- end }}
