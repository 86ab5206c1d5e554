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
{{- end -}}
