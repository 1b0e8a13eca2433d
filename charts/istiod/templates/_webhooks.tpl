{{/*
The webhooks of injection, as YAML of a list. Selectors are Istio's: the namespace's label decides before the pod's,
`istio-injection` before `istio.io/rev`, and a pod may always refuse. Namespaces of Kubernetes itself are left out of
every one, so that a mesh without istiod cannot keep a cluster from starting.
Takes dict root, values, revision (the name that namespaces ask by), plain (whether it answers istio-injection, too).
*/}}
{{- define "istiod.webhooks" -}}
{{- $c := . }}
{{- $absent := dict "operator" "DoesNotExist" }}
{{- $noInjection := merge (dict "key" "istio-injection") $absent }}
{{- $noRevision := merge (dict "key" "istio.io/rev") $absent }}
{{- $noWish := merge (dict "key" "sidecar.istio.io/inject") $absent }}
{{- $mine := dict "key" "istio.io/rev" "operator" "In" "values" (list .revision) }}
{{- $willing := dict "key" "sidecar.istio.io/inject" "operator" "NotIn" "values" (list "false") }}
{{- $wish := dict "key" "sidecar.istio.io/inject" "operator" "In" "values" (list "true") }}
{{- $enabled := dict "key" "istio-injection" "operator" "In" "values" (list "enabled") }}
{{ include "istiod.webhook" (dict "c" $c "name" "rev.namespace" "namespace" (list $mine $noInjection) "object" (list $willing)) }}
{{ include "istiod.webhook" (dict "c" $c "name" "rev.object" "namespace" (list $noRevision $noInjection) "object" (list $willing $mine)) }}
{{- if .plain }}
{{ include "istiod.webhook" (dict "c" $c "name" "namespace" "namespace" (list $enabled) "object" (list $willing)) }}
{{ include "istiod.webhook" (dict "c" $c "name" "object" "namespace" (list $noInjection $noRevision) "object" (list $wish $noRevision)) }}
{{- if .values.sidecarInjectorWebhook.enableNamespacesByDefault }}
{{ include "istiod.webhook" (dict "c" $c "name" "auto" "namespace" (list $noInjection $noRevision) "object" (list $noWish $noRevision)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "istiod.webhook" -}}
{{- $system := dict "key" "kubernetes.io/metadata.name" "operator" "NotIn" "values" (list "kube-system" "kube-public" "kube-node-lease" "local-path-storage") }}
- name: {{ .name }}.sidecar-injector.istio.io
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 10
  reinvocationPolicy: {{ .c.values.sidecarInjectorWebhook.reinvocationPolicy | toJson }}
  clientConfig:
    service:
      name: {{ printf "istiod%s" (include "istiod.suffix" .c.values) | toJson }}
      namespace: {{ .c.root.Release.Namespace | toJson }}
      path: /inject
      port: 443
  rules:
    - {operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods], scope: Namespaced}
  namespaceSelector:
    matchExpressions:
      {{- toYaml (append .namespace $system) | nindent 6 }}
  objectSelector:
    matchExpressions:
      {{- toYaml .object | nindent 6 }}
{{- end }}
