{{/*
Values without sections and lists that are null, as YAML has one where all below a key is commented out: the defaults
hold there. Of all else a null takes the default away, as Helm has it. A value of another kind than its default's ends
everything with its name: later it would be an error inside of a template, or an object that the API server refuses.
What is not known is left alone. JSON; takes dict values, known, open (paths whose insides others judge), path.
*/}}
{{- define "istio.kinds" -}}
{{- $known := .known }}
{{- $path := .path }}
{{- $made := dict }}
{{- range $key, $value := .values }}
{{- $here := ternary $key (printf "%s.%s" $path $key) (eq $path "") }}
{{- $default := get $known $key }}
{{- $open := has $here $.open }}
{{- if not (hasKey $known $key) }}
{{- $_ := set $made $key $value }}
{{- else if kindIs "invalid" $value }}
{{- if or (and $open $default) (not (or (kindIs "map" $default) (kindIs "slice" $default))) }}
{{- $_ := set $made $key $value }}
{{- end }}
{{- else if and (kindIs "map" $default) (kindIs "map" $value) $default (not $open) }}
{{- $inner := dict "values" $value "known" $default "open" $.open "path" $here }}
{{- $_ := set $made $key (include "istio.kinds" $inner | fromJson) }}
{{- else }}
{{- if and (kindIs "map" $default) (not (kindIs "map" $value)) }}
{{- fail (printf "%s must be an object, not %s" $here ($value | toJson)) }}
{{- else if and (kindIs "slice" $default) (not (kindIs "slice" $value)) }}
{{- fail (printf "%s must be a list, not %s" $here ($value | toJson)) }}
{{- else if and (kindIs "bool" $default) (not (kindIs "bool" $value)) }}
{{- fail (printf "%s must be true or false, not %s" $here ($value | toJson)) }}
{{- else if and (kindIs "float64" $default) (not (has (kindOf $value) (list "float64" "int64" "int"))) (not (regexMatch "^-?[0-9]+([.][0-9]+)?$" (toString $value))) }}
{{- fail (printf "%s must be a number, not %s" $here ($value | toJson)) }}
{{- else if and (kindIs "string" $default) (or (kindIs "map" $value) (kindIs "slice" $value)) }}
{{- fail (printf "%s must be a text, not %s" $here ($value | toJson)) }}
{{- end }}
{{- $_ := set $made $key $value }}
{{- end }}
{{- end }}
{{- $made | toJson }}
{{- end }}
