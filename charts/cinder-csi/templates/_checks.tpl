{{/* Combinations of values that each make sense, and together don't. */}}
{{- define "cinder-csi.checks" -}}
{{- if and .Values.secret.create (not (hasKey .Values.secret.data .Values.secret.filename)) -}}
{{- fail (printf "secret.data: has no key %q, which secret.filename names" .Values.secret.filename) -}}
{{- end -}}
{{- if and .Values.storageCapacity.enabled .Values.cloudNames (not (has "" .Values.cloudNames)) -}}
{{- fail "storageCapacity.enabled: capacity is known for [Global] only, and cloudNames doesn't have it (an empty string)" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled (has "controller" .Values.metrics.podMonitor.targets) -}}
{{- fail "metrics: serviceMonitor and podMonitor would both scrape the controller; set metrics.podMonitor.targets to [node]" -}}
{{- end -}}
{{- /* The policy doesn't reach pods on the node's network. */ -}}
{{- $scraped := or .Values.metrics.serviceMonitor.enabled (and .Values.metrics.podMonitor.enabled (has "controller" .Values.metrics.podMonitor.targets)) -}}
{{- if and $scraped .Values.networkPolicy.enabled (not .Values.networkPolicy.metricsFrom) (not .Values.controller.hostNetwork) -}}
{{- fail "networkPolicy.metricsFrom: nobody could read the metrics of the controller that are to be scraped; list Prometheus there" -}}
{{- end -}}
{{- $update := include "cinder-csi.rollingUpdate" . | fromYaml -}}
{{- if and (eq .Values.controller.strategy.type "RollingUpdate") (regexMatch "^0+%?$" (toString $update.maxSurge)) (regexMatch "^0+%?$" (toString $update.maxUnavailable)) -}}
{{- fail "controller.strategy.rollingUpdate: no pod could be replaced with none more (maxSurge) and none fewer (maxUnavailable)" -}}
{{- end -}}
{{- $namespaces := dict -}}
{{- range .Values.rbac.secrets -}}
{{- if hasKey $namespaces .namespace -}}
{{- fail (printf "rbac.secrets: the namespace %q is there twice; list all names of its Secrets in one place" .namespace) -}}
{{- end -}}
{{- $_ := set $namespaces .namespace true -}}
{{- end -}}
{{- if and .Values.volumeAttributesClasses (semverCompare "<1.34.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "volumeAttributesClasses: the sidecars know storage.k8s.io/v1 only, which Kubernetes has from 1.34 on, and this is %s" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}
