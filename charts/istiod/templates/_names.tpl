{{/* "-canary" for the revision canary, nothing for the default one. Takes the values. */}}
{{- define "istiod.suffix" -}}
{{- if and .revision (ne .revision "default") }}-{{ .revision }}{{ end }}
{{- end }}

{{- define "istiod.revision" -}}
{{- .revision | default "default" }}
{{- end }}

{{/* Names of objects without a namespace: they carry the release's where it is not Istio's usual one. */}}
{{- define "istiod.outside" -}}
{{- if ne . "istio-system" }}-{{ . }}{{ end }}
{{- end }}

{{/* Name of a webhook configuration of this revision. Takes dict values, namespace. */}}
{{- define "istiod.injector" -}}
istio-sidecar-injector{{ include "istiod.suffix" .values }}{{ include "istiod.outside" .namespace }}
{{- end }}

{{- define "istiod.validator" -}}
istio-validator{{ include "istiod.suffix" .values }}-{{ .namespace }}
{{- end }}

{{- define "istiod.tag" -}}
istio-revision-tag-{{ .tag }}{{ include "istiod.outside" .namespace }}
{{- end }}

{{/* Further names of this revision, each once, as a JSON list. Takes the values. */}}
{{- define "istiod.tags" -}}
{{- without .revisionTags (include "istiod.revision" .) | uniq | toJson }}
{{- end }}

{{/* Labels of every object. Takes dict root, values. */}}
{{- define "istiod.labels" -}}
app: istiod
istio.io/rev: {{ include "istiod.revision" .values | toJson }}
release: {{ .root.Release.Name | toJson }}
app.kubernetes.io/name: istiod
app.kubernetes.io/instance: {{ .root.Release.Name | toJson }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | toJson }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | toJson }}
app.kubernetes.io/part-of: istio
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | toJson }}
{{- end }}

{{/* A user's labels or annotations: they are text, whatever YAML took them for. */}}
{{- define "istiod.texts" -}}
{{- range $key, $value := . }}
{{ $key | toJson }}: {{ $value | toString | toJson }}
{{- end }}
{{- end }}

{{/* Value of the label `istio`: only the default revision's selector goes by it, so others must have another. */}}
{{- define "istiod.istio" -}}
{{- ternary "istiod" "pilot" (ne (include "istiod.suffix" .) "") }}
{{- end }}

{{/* Which pods are this revision's. */}}
{{- define "istiod.selector" -}}
app: istiod
{{- if include "istiod.suffix" . }}
istio.io/rev: {{ .revision | toJson }}
{{- else }}
istio: pilot
{{- end }}
{{- end }}

{{/* Reference of an image: its name may be a whole reference already. Takes dict image, hub, tag. */}}
{{- define "istiod.image" -}}
{{- if contains "/" .image }}{{ .image }}{{ else }}{{ .hub }}/{{ .image }}:{{ .tag }}{{ end }}
{{- end }}
