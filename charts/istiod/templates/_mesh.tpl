{{/* The mesh configuration as JSON: what other values say, under what meshConfig says. Takes dict values, namespace. */}}
{{- define "istiod.mesh" -}}
{{- $v := .values }}
{{- $address := printf "istiod%s.%s.svc:15012" (include "istiod.suffix" $v) .namespace }}
{{- $proxy := dict "discoveryAddress" $address }}
{{- with $v.global.meshID }}{{ $_ := set $proxy "meshId" . }}{{ end }}
{{- $mesh := dict
  "trustDomain" "cluster.local"
  "rootNamespace" $v.global.istioNamespace
  "defaultConfig" $proxy
}}
{{- mergeOverwrite $mesh (deepCopy $v.meshConfig) | toJson }}
{{- end }}
