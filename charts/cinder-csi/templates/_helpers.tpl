{{/*
The prefix of every object's name. A Service's has 63 characters at the most, of
which -controller-metrics takes 19.
*/}}
{{- define "cinder-csi.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- regexReplaceAll "[-.]+$" (trunc 44 $full) "" -}}
{{- end -}}

{{/* Compiled into Kubernetes for volumes of the in-tree plugin: no value. */}}
{{- define "cinder-csi.driver" -}}
cinder.csi.openstack.org
{{- end -}}

{{/* What selects pods. Selectors can't change: nothing here may depend on values. */}}
{{- define "cinder-csi.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/*
Labels and annotations of an object. Takes root, and optionally component,
labels and annotations of the object's own.
*/}}
{{- define "cinder-csi.meta" -}}
{{- $own := dict -}}
{{- if .component -}}
{{- $own = include "cinder-csi.selectorLabels" . | fromYaml -}}
{{- else -}}
{{- $own = dict "app.kubernetes.io/name" .root.Chart.Name "app.kubernetes.io/instance" .root.Release.Name -}}
{{- end -}}
{{- $own = mustMerge $own (dict
  "app.kubernetes.io/managed-by" .root.Release.Service
  "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_")
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")) -}}
labels:
  {{- toYaml (mustMerge $own (default dict .labels) .root.Values.commonLabels) | nindent 2 }}
{{- with mustMerge dict (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes image (repository, tag, digest), and the default tag or the name of who has none. */}}
{{- define "cinder-csi.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ required (printf "%s.image.tag: needed, since there is no digest" .name) (default .defaultTag .image.tag) }}
{{- end -}}
{{- end -}}

{{- define "cinder-csi.serviceAccountName" -}}
{{- $values := index .root.Values .component -}}
{{- if $values.serviceAccount.create -}}
{{ default (printf "%s-%s" (include "cinder-csi.fullname" .root) .component) $values.serviceAccount.name }}
{{- else -}}
{{ required (printf "%s.serviceAccount.name: needed, since %s.serviceAccount.create is false" .component .component) $values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* A new pod before an old one goes, unless the old one has its ports: those of the node. */}}
{{- define "cinder-csi.rollingUpdate" -}}
{{- $update := .Values.controller.hostNetwork | ternary (dict "maxSurge" 0 "maxUnavailable" 1) (dict "maxSurge" 1 "maxUnavailable" 0) -}}
{{- /* merge would take a 0 for nothing. */ -}}
{{- range $key, $value := .Values.controller.strategy.rollingUpdate -}}
{{- $_ := set $update $key $value -}}
{{- end -}}
{{- toYaml $update -}}
{{- end -}}

{{- define "cinder-csi.dnsPolicy" -}}
{{- if .dnsPolicy -}}
{{ .dnsPolicy }}
{{- else if .hostNetwork -}}
ClusterFirstWithHostNet
{{- else -}}
ClusterFirst
{{- end -}}
{{- end -}}

{{/* The sidecars of the controller that run, as a list. */}}
{{- define "cinder-csi.controllerSidecars" -}}
sidecars:
  - provisioner
  - attacher
  - resizer
  {{- if .Values.sidecars.snapshotter.enabled }}
  - snapshotter
  {{- end }}
{{- end -}}

{{/* The name of a sidecar's lease: Kubernetes' sidecars derive it from the driver's name. */}}
{{- define "cinder-csi.lease" -}}
{{- $driver := include "cinder-csi.driver" . | replace "." "-" -}}
{{- get (dict
  "provisioner" $driver
  "attacher" (printf "external-attacher-leader-%s" $driver)
  "resizer" (printf "external-resizer-%s" $driver)
  "snapshotter" (printf "external-snapshotter-leader-%s" $driver)) .sidecar -}}
{{- end -}}

{{/* The address on which /healthz of the node listens. */}}
{{- define "cinder-csi.nodeAddress" -}}
{{- if .Values.node.healthAddress -}}
{{ .Values.node.healthAddress }}
{{- else if and .Values.node.hostNetwork (not (and .Values.metrics.podMonitor.enabled (has "node" .Values.metrics.podMonitor.targets))) -}}
127.0.0.1
{{- end -}}
{{- end -}}

{{/* That address with a port. Takes root and port. */}}
{{- define "cinder-csi.nodeEndpoint" -}}
{{- $address := include "cinder-csi.nodeAddress" .root -}}
{{- printf "%s:%d" (contains ":" $address | ternary (printf "[%s]" $address) $address) (int .port) -}}
{{- end -}}

{{/* The address for a probe, if it isn't the pod's: the kubelet adds the brackets of IPv6 itself. */}}
{{- define "cinder-csi.nodeProbeHost" -}}
{{- $address := include "cinder-csi.nodeAddress" . -}}
{{- if not (regexMatch "^[0.:]*$" $address) -}}
{{ $address }}
{{- end -}}
{{- end -}}
