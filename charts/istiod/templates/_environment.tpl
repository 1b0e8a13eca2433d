{{/*
Environment of istiod, as YAML of a container's `env`. A variable that the user sets stands once, with the user's value.
Takes dict values, namespace.
*/}}
{{- define "istiod.environment" -}}
{{- $v := .values }}
{{- $own := dict
  "REVISION" (include "istiod.revision" $v)
  "PILOT_CERT_PROVIDER" "istiod"
  "CLUSTER_ID" ($v.global.multiCluster.clusterName | default "Kubernetes")
  "PILOT_ENABLE_ANALYSIS" ($v.global.istiod.enableAnalysis | toString)
  "PILOT_TRACE_SAMPLING" ($v.pilot.traceSampling | toJson)
  "INJECTION_WEBHOOK_CONFIG_NAME" (include "istiod.injector" .)
  "VALIDATION_WEBHOOK_CONFIG_NAME" (include "istiod.validator" .)
}}
{{- with $v.global.platform }}{{ $_ := set $own "PLATFORM" . }}{{ end }}
{{- $taken := list }}
{{- range $v.pilot.envVarFrom }}{{ $taken = append $taken .name }}{{ end }}
{{- range $key, $value := $v.pilot.env }}{{ $_ := set $own $key ($value | toString) }}{{ end }}
{{- range $key, $value := $own }}
{{- if not (has $key $taken) }}
- {name: {{ $key | toJson }}, value: {{ $value | toJson }}}
{{- end }}
{{- end }}
{{- range $key, $field := dict "POD_NAME" "metadata.name" "POD_NAMESPACE" "metadata.namespace" "SERVICE_ACCOUNT" "spec.serviceAccountName" }}
- {name: {{ $key }}, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: {{ $field }}}}}
{{- end }}
{{- with $v.pilot.envVarFrom }}
{{ toYaml . }}
{{- end }}
{{- end }}
