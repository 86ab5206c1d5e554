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

{{/* The cluster's name in the cloud; a template, so that one file of values does for many clusters. */}}
{{- define "cinder-csi.clusterID" -}}
{{- tpl .Values.clusterID . -}}
{{- end -}}

{{/* Compiled into Kubernetes for volumes of the in-tree plugin: no value. */}}
{{- define "cinder-csi.driver" -}}
cinder.csi.openstack.org
{{- end -}}

{{/* The namespace of a component's objects. Takes root and component: that of the nodes may be another one. */}}
{{- define "cinder-csi.namespace" -}}
{{- $own := eq .component "controller" | ternary "" .root.Values.node.namespaceOverride -}}
{{- $own | default .root.Values.namespaceOverride | default .root.Release.Namespace -}}
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
  {{- toYaml (mustMerge $own (default dict .labels) (default dict .root.Values.commonLabels)) | nindent 2 }}
{{- with mustMerge dict (default dict .annotations) (default dict .root.Values.commonAnnotations) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
An image's reference. Takes root, image (repository, tag, digest), and the
default tag or the name of who has none. The first part of a repository is its
registry if it is a host: that is what global.imageRegistry replaces.
*/}}
{{- define "cinder-csi.image" -}}
{{- $repository := required "image.repository: every image needs one" .image.repository -}}
{{- with .root.Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $repository "") -}}
{{- end -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ required (printf "%s.image.tag: needed, since there is no digest" .name) (default .defaultTag .image.tag) }}
{{- end -}}
{{- end -}}

{{/* The Secrets for pulling images, as the field of a pod: the chart's and those that a parent chart has for all, which may be names alone. */}}
{{- define "cinder-csi.imagePullSecrets" -}}
{{- $names := list -}}
{{- range concat (default list .Values.imagePullSecrets) (default list .Values.global.imagePullSecrets) -}}
{{- $names = append $names (kindIs "map" . | ternary . (dict "name" .)) -}}
{{- end -}}
{{- toYaml (dict "imagePullSecrets" (uniq $names)) -}}
{{- end -}}

{{/* Those of the given fields that have a value: what is null or empty is left to Kubernetes. */}}
{{- define "cinder-csi.fields" -}}
{{- $given := dict -}}
{{- range $field, $value := . -}}
{{- if $value -}}
{{- $_ := set $given $field $value -}}
{{- end -}}
{{- end -}}
{{- if $given -}}
{{- toYaml $given -}}
{{- end -}}
{{- end -}}

{{/*
What the pods of both components have alike. Takes root, component and the
component's values. Both tolerate the taint of nodes that start: it goes once the
plugin of the node has registered, and the controller takes it off.
*/}}
{{- define "cinder-csi.pod" -}}
{{- $starting := list -}}
{{- with .root.Values.startupTaint -}}
{{- $starting = append $starting (dict "key" . "operator" "Exists") -}}
{{- end -}}
serviceAccountName: {{ include "cinder-csi.serviceAccountName" . }}
# A token is mounted to those containers alone that ask the API server.
automountServiceAccountToken: false
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
hostNetwork: {{ .values.hostNetwork }}
dnsPolicy: {{ include "cinder-csi.dnsPolicy" .values }}
nodeSelector:
  {{- toYaml (mustMerge dict (default dict .values.nodeSelector) (dict "kubernetes.io/os" "linux")) | nindent 2 }}
{{ include "cinder-csi.fields" (mustMerge (include "cinder-csi.imagePullSecrets" .root | fromYaml) (dict
  "priorityClassName" .values.priorityClassName
  "schedulerName" .values.schedulerName
  "hostAliases" .values.hostAliases
  "dnsConfig" .values.dnsConfig
  "tolerations" (concat $starting (default list .values.tolerations))
  "affinity" .values.affinity
  "securityContext" .values.podSecurityContext
  "initContainers" .values.initContainers)) }}
{{- end -}}

{{/* What the driver's containers of both components have alike. Takes the component's values. */}}
{{- define "cinder-csi.container" -}}
terminationMessagePolicy: FallbackToLogsOnError
{{ include "cinder-csi.fields" (dict
  "env" .extraEnv
  "envFrom" .envFrom
  "lifecycle" .lifecycle
  "resources" .resources
  "securityContext" .securityContext) }}
{{- end -}}

{{/* Whether the controller asks the API server itself, beside its sidecars. */}}
{{- define "cinder-csi.driverAsks" -}}
{{- if or .Values.pvcAnnotations .Values.startupTaint .Values.events.enabled .Values.inspect.enabled -}}
true
{{- end -}}
{{- end -}}

{{/* The token of the pod, and what it takes to believe the API server, as sources of a projected volume. */}}
{{- define "cinder-csi.token" -}}
- serviceAccountToken:
    path: token
    expirationSeconds: 3607
- configMap:
    name: kube-root-ca.crt
    items:
      - key: ca.crt
        path: ca.crt
- downwardAPI:
    items:
      - path: namespace
        fieldRef:
          fieldPath: metadata.namespace
{{- end -}}

{{/* The hooks of a node's container. The plugin's own end takes the 20 s that are left. Takes the values of a DaemonSet. */}}
{{- define "cinder-csi.nodeLifecycle" -}}
{{- $lifecycle := default dict .lifecycle | deepCopy -}}
{{- if .preStop.enabled -}}
{{- $command := list "/bin/cinder-csi-plugin" "pre-stop" (printf "--kubelet-dir=%s" (include "cinder-csi.kubeletDir" .)) (printf "--timeout=%ds" (sub (int .terminationGracePeriodSeconds) 20)) -}}
{{- $_ := set $lifecycle "preStop" (dict "exec" (dict "command" $command)) -}}
{{- end -}}
{{- toYaml $lifecycle -}}
{{- end -}}

{{/* The variables of the driver's container, as a list: own ones, those by which OpenTelemetry sends traces, and those of the component's values, which replace others of their names: Kubernetes refuses to apply a name twice. Takes root, values, own. */}}
{{- define "cinder-csi.env" -}}
{{- $env := .own -}}
{{- with .root.Values.tracing -}}
{{- if .enabled -}}
{{- range $name, $field := dict "K8S_NAMESPACE" "metadata.namespace" "K8S_NODE" "spec.nodeName" "K8S_POD" "metadata.name" -}}
{{- $env = append $env (dict "name" $name "valueFrom" (dict "fieldRef" (dict "fieldPath" $field))) -}}
{{- end -}}
{{- range $name, $value := dict
  "OTEL_EXPORTER_OTLP_ENDPOINT" .endpoint
  "OTEL_RESOURCE_ATTRIBUTES" "k8s.namespace.name=$(K8S_NAMESPACE),k8s.node.name=$(K8S_NODE),k8s.pod.name=$(K8S_POD)"
  "OTEL_TRACES_SAMPLER" "parentbased_traceidratio"
  "OTEL_TRACES_SAMPLER_ARG" (toString .ratio) -}}
{{- $env = append $env (dict "name" $name "value" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $names := list -}}
{{- range .values.extraEnv -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $own := list -}}
{{- range $env -}}
{{- if not (has .name $names) -}}
{{- $own = append $own . -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "env" (concat $own (default list .values.extraEnv))) -}}
{{- end -}}

{{/* A probe. Takes path, port, optionally host, and settings. */}}
{{- define "cinder-csi.probe" -}}
{{- $get := dict "path" .path "port" .port -}}
{{- with .host -}}
{{- $_ := set $get "host" . -}}
{{- end -}}
{{- toYaml (mustMerge (dict "httpGet" $get) (default dict .settings)) -}}
{{- end -}}

{{/* The verbosity of a container. Takes root and the container's values. */}}
{{- define "cinder-csi.verbosity" -}}
{{- kindIs "invalid" .values.logLevel | ternary .root.Values.logging.verbosity .values.logLevel -}}
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
  {{- if include "cinder-csi.snapshots" . }}
  - snapshotter
  {{- end }}
{{- end -}}

{{/*
Whether objects of an API can be made. Takes root and api, as in
monitoring.coreos.com/v1/PodMonitor. Every cluster has apiregistration.k8s.io,
and Helm believes in it only where a cluster was asked: elsewhere (helm template)
nothing is known about the cluster, and what the values ask for is made.
*/}}
{{- define "cinder-csi.has" -}}
{{- $apis := .root.Capabilities.APIVersions -}}
{{- if or ($apis.Has .api) (not ($apis.Has "apiregistration.k8s.io/v1")) -}}
true
{{- end -}}
{{- end -}}

{{/* Whether the CRDs of snapshots are there. */}}
{{- define "cinder-csi.snapshotAPI" -}}
{{- if or .Values.sidecars.snapshotter.forceEnable (include "cinder-csi.has" (dict "root" . "api" "snapshot.storage.k8s.io/v1")) -}}
true
{{- end -}}
{{- end -}}

{{/* Whether the snapshotter runs. */}}
{{- define "cinder-csi.snapshots" -}}
{{- if and .Values.sidecars.snapshotter.enabled (include "cinder-csi.snapshotAPI" .) -}}
true
{{- end -}}
{{- end -}}

{{/* The objects of the Prometheus operator that are made, as a list of the names of their values. */}}
{{- define "cinder-csi.monitors" -}}
monitors:
  {{- range $name := list "podMonitor" "prometheusRule" "serviceMonitor" }}
  {{- $monitor := index $.Values.metrics $name }}
  {{- if and $monitor.enabled (or $monitor.forceEnable (include "cinder-csi.has" (dict "root" $ "api" (printf "monitoring.coreos.com/v1/%s" (title $name))))) }}
  - {{ $name }}
  {{- end }}
  {{- end }}
{{- end -}}

{{/*
What selects the series of this installation: the operator's targets have a label
with their namespace. Takes root and the role that the series are of, both if empty.
An alert about series that are absent has the label only where it is one namespace.
*/}}
{{- define "cinder-csi.matchers" -}}
{{- with .root.Values.metrics.prometheusRule.matchers -}}
{{ . }}
{{- else -}}
{{- $namespaces := list -}}
{{- range empty .role | ternary (list "controller" "node") (list .role) -}}
{{- $namespaces = append $namespaces (include "cinder-csi.namespace" (dict "root" $.root "component" .)) -}}
{{- end -}}
{{- $namespaces = uniq $namespaces -}}
namespace{{ gt (len $namespaces) 1 | ternary "=~" "=" }}"{{ join "|" $namespaces }}"
{{- end -}}
{{- end -}}

{{/* Whether roles are made: for the controller of this cluster, or for one elsewhere that rbac.subjects names. */}}
{{- define "cinder-csi.roles" -}}
{{- if and .Values.rbac.create (or .Values.rbac.subjects (and .Values.controller.enabled (not .Values.controller.kubeconfig.secretName))) -}}
true
{{- end -}}
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

{{/* The address on which /healthz of a node listens. Takes root and node, the values of its DaemonSet. */}}
{{- define "cinder-csi.nodeAddress" -}}
{{- if .node.healthAddress -}}
{{ .node.healthAddress }}
{{- else if and .node.hostNetwork (not (and .root.Values.metrics.podMonitor.enabled (has "node" .root.Values.metrics.podMonitor.targets))) -}}
127.0.0.1
{{- end -}}
{{- end -}}

{{/* That address with a port. Takes port besides. */}}
{{- define "cinder-csi.nodeEndpoint" -}}
{{- $address := include "cinder-csi.nodeAddress" . -}}
{{- printf "%s:%d" (contains ":" $address | ternary (printf "[%s]" $address) $address) (int .port) -}}
{{- end -}}

{{/* The address for a probe, if it isn't the pod's: the kubelet adds the brackets of IPv6 itself. */}}
{{- define "cinder-csi.nodeProbeHost" -}}
{{- $address := include "cinder-csi.nodeAddress" . -}}
{{- if not (regexMatch "^[0.:]*$" $address) -}}
{{ $address }}
{{- end -}}
{{- end -}}

{{/*
The values of the DaemonSets by component: node, and node-POOL for each of
additionalDaemonSets, which has node's values where it gives none of its own. The
first leaves the nodes of the others alone: two pods on a node would have the same
sockets and ports.
*/}}
{{- define "cinder-csi.daemonSets" -}}
{{- $sets := dict -}}
{{- if .Values.node.enabled -}}
{{- range $pool, $own := .Values.additionalDaemonSets -}}
{{- $values := deepCopy $.Values.node -}}
{{- include "cinder-csi.overlay" (dict "on" $values "own" $own) -}}
{{- $_ := set $sets (printf "node-%s" $pool) $values -}}
{{- end -}}
{{- $node := deepCopy .Values.node -}}
{{- with .Values.additionalDaemonSets -}}
{{- $_ := set $node "affinity" (include "cinder-csi.affinityWithout" (dict "affinity" $node.affinity "pools" .) | fromYaml) -}}
{{- end -}}
{{- $_ := set $sets "node" $node -}}
{{- end -}}
{{- toYaml $sets -}}
{{- end -}}

{{/* Puts own values on others, which it changes: a merge of sprig would take a false or a 0 for nothing. */}}
{{- define "cinder-csi.overlay" -}}
{{- range $key, $value := .own -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $.on $key)) -}}
{{- include "cinder-csi.overlay" (dict "on" (get $.on $key) "own" $value) -}}
{{- else -}}
{{- $_ := set $.on $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The affinity of a pod that stays off the nodes of pools: of each it lacks one label. Terms are alternatives, so each of the affinity's own goes with each of these. */}}
{{- define "cinder-csi.affinityWithout" -}}
{{- $affinity := default dict .affinity | deepCopy -}}
{{- $nodes := default dict $affinity.nodeAffinity -}}
{{- $key := "requiredDuringSchedulingIgnoredDuringExecution" -}}
{{- $terms := default (list dict) (get (default dict (get $nodes $key)) "nodeSelectorTerms") -}}
{{- range .pools -}}
{{- $selector := .nodeSelector -}}
{{- $split := list -}}
{{- range $term := $terms -}}
{{- range $label, $value := $selector -}}
{{- $lacks := dict "key" $label "operator" "NotIn" "values" (list $value) -}}
{{- $split = append $split (set (deepCopy $term) "matchExpressions" (append (default list $term.matchExpressions) $lacks)) -}}
{{- end -}}
{{- end -}}
{{- $terms = $split -}}
{{- end -}}
{{- toYaml (set $affinity "nodeAffinity" (set $nodes $key (dict "nodeSelectorTerms" $terms))) -}}
{{- end -}}

{{/* The kubelet's directory as its own paths begin, without a slash at the end. Takes the values of a DaemonSet. */}}
{{- define "cinder-csi.kubeletDir" -}}
{{- regexReplaceAll "/+$" .kubeletDir "" -}}
{{- end -}}
