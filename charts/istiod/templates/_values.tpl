{{/*
What holds: the chart's defaults, a profile, then the user's values, which win. JSON; read it with fromJson.
Values come in three forms: as here, under `defaults` (Istio 1.22 and 1.23), and pilot's at the top (later ones).
*/}}
{{- define "istiod.values" -}}
{{- $defaults := get .Values "_internal_defaults_do_not_set" | toJson | fromJson }}
{{- $values := deepCopy $defaults }}
{{- $parts := dict "values" (pick .Values "defaults") "known" (dict "defaults" dict) "open" list "path" "" }}
{{- $_ := include "istio.kinds" $parts }}
{{- $layers := list (include "istiod.profile" . | fromJson) (.Values.defaults | default dict) .Values }}
{{- range $layer := $layers }}
{{- $values = mergeOverwrite $values (include "istiod.layer" (dict "layer" $layer "known" $defaults) | fromJson) }}
{{- end }}
{{- range $name := prepend ($values.revisionTags | default list) $values.revision }}
{{- if and $name (not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" $name)) }}
{{- fail (printf "revision, revisionTags: %s is no name: small letters, digits and '-'" ($name | toJson)) }}
{{- end }}
{{- end }}
{{- $_ := set $values.global "platform" ($values.global.platform | default $values.platform) }}
{{- $values | toJson }}
{{- end }}

{{/*
One layer of values with what belongs to pilot under `pilot`, without what only steers the reading, and of the right kinds.
Takes dict layer, known (the defaults).
*/}}
{{- define "istiod.layer" -}}
{{- $_ := include "istio.kinds" (dict "values" (pick .layer "pilot") "known" (dict "pilot" dict) "open" list "path" "") }}
{{- $layer := omit (deepCopy .layer) "_internal_defaults_do_not_set" "defaults" "profile" }}
{{- $own := dict }}
{{- range $key, $_ := .known.pilot }}
{{- if hasKey $layer $key }}
{{- $_ := set $own $key (get $layer $key) }}
{{- $_ := unset $layer $key }}
{{- end }}
{{- end }}
{{- if or $own $layer.pilot }}
{{- $_ := set $layer "pilot" (mergeOverwrite $own ($layer.pilot | default dict)) }}
{{- end }}
{{- $known := deepCopy .known }}
{{- $_ := unset $known.sidecarInjectorWebhook "templates" }}{{/* an object, or a list of names */}}
{{- include "istio.kinds" (dict "values" $layer "known" $known "open" (include "istiod.open" . | fromJsonArray) "path" "") }}
{{- end }}

{{/* Values whose insides others judge: the mesh configuration is istiod's, resources are Kubernetes'. */}}
{{- define "istiod.open" -}}
{{- list "meshConfig" "pilot.resources" "global.proxy.resources" "global.defaultResources" | toJson }}
{{- end }}

{{/* The profile's values; no profile is one without any. */}}
{{- define "istiod.profile" -}}
{{- $global := ternary .Values.global dict (kindIs "map" .Values.global) }}
{{- $name := .Values.profile | default $global.profile | default "default" }}
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
