{{/* What holds: the chart's defaults under the user's values. JSON; read it with fromJson. */}}
{{- define "gateway.values" -}}
{{- $values := deepCopy (get .Values "_internal_defaults_do_not_set") }}
{{- $values = mergeOverwrite $values (deepCopy (.Values.defaults | default dict)) }}
{{- $values = mergeOverwrite $values (omit (deepCopy .Values) "_internal_defaults_do_not_set" "defaults" "global" "profile" "compatibilityVersion" "runAsRoot" "unprivilegedPort") }}
{{- $_ := set $values "platform" ($values.platform | default (.Values.global).platform) }}
{{- $values | toJson }}
{{- end }}

{{/* Takes dict root, values, as all below. */}}
{{- define "gateway.name" -}}
{{- .values.name | default .root.Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "gateway.account" -}}
{{- .values.serviceAccount.name | default (ternary (include "gateway.name" .) "default" .values.serviceAccount.create) }}
{{- end }}

{{/* What Gateway objects select by; a user's own `app` or `istio` wins. */}}
{{- define "gateway.selector" -}}
app: {{ .values.labels.app | default (include "gateway.name" .) | toString | toJson }}
istio: {{ .values.labels.istio | default (include "gateway.name" . | trimPrefix "istio-") | toString | toJson }}
{{- end }}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/name: {{ include "gateway.name" . | toJson }}
app.kubernetes.io/instance: {{ .root.Release.Name | toJson }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | toJson }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | toJson }}
app.kubernetes.io/part-of: istio
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | toJson }}
{{- with .values.networkGateway }}
topology.istio.io/network: {{ . | toJson }}
{{- end }}
{{- range $key, $value := omit .values.labels "app" "istio" }}
{{ $key | toJson }}: {{ $value | toString | toJson }}
{{- end }}
{{- end }}

{{/* Annotations are text, whatever YAML took them for. */}}
{{- define "gateway.texts" -}}
{{- range $key, $value := . }}
{{ $key | toJson }}: {{ $value | toString | toJson }}
{{- end }}
{{- end }}
