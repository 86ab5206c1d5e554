{{/*
The container of a sidecar of the controller. Takes root, sidecar, name, args and
feature gates. Whoever uses a kubeconfig has its leases, and the capacities, in a
namespace of that cluster.
*/}}
{{- define "cinder-csi.sidecar" -}}
{{- $values := index .root.Values.sidecars .sidecar -}}
{{- $election := .root.Values.controller.leaderElection -}}
{{- $kubeconfig := .root.Values.controller.kubeconfig -}}
- name: {{ .name }}
  image: {{ include "cinder-csi.image" (dict "root" .root "image" $values.image "name" (printf "sidecars.%s" .sidecar)) | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    - --leader-election=true
    - --leader-election-namespace=$(NAMESPACE)
    - --leader-election-lease-duration={{ $election.leaseDuration }}
    - --leader-election-renew-deadline={{ $election.renewDeadline }}
    - --leader-election-retry-period={{ $election.retryPeriod }}
    {{- with concat ($election.releaseOnExit | ternary (list "ReleaseLeaderElectionOnExit=true") list) (default list .gates) }}
    - --feature-gates={{ join "," . }}
    {{- end }}
    {{- if $kubeconfig.secretName }}
    - {{ printf "--kubeconfig=/etc/kubeconfig/%s" $kubeconfig.key | quote }}
    {{- end }}
    {{- .args | nindent 4 }}
    - --kube-api-qps={{ $values.kubeAPIQPS }}
    - --kube-api-burst={{ $values.kubeAPIBurst }}
    - --retry-interval-max={{ $values.retryIntervalMax }}
    - --http-endpoint=:{{ $values.httpPort }}
    - --v={{ include "cinder-csi.verbosity" (dict "root" .root "values" $values) }}
    {{- range $values.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - name: NAMESPACE
      {{- if $kubeconfig.secretName }}
      value: {{ $kubeconfig.namespace }}
      {{- else }}
      valueFrom:
        fieldRef:
          fieldPath: metadata.namespace
      {{- end }}
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    {{- with $values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - name: {{ .sidecar }}
      containerPort: {{ $values.httpPort }}
      protocol: TCP
  livenessProbe:
    {{- include "cinder-csi.probe" (dict "path" "/healthz/leader-election" "port" .sidecar "settings" .root.Values.controller.sidecarLivenessProbe) | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  {{- with include "cinder-csi.fields" (dict "resources" $values.resources "securityContext" (default .root.Values.controller.securityContext $values.securityContext)) }}
  {{- . | nindent 2 }}
  {{- end }}
  volumeMounts:
    - name: socket
      mountPath: /csi
    {{- include "cinder-csi.clusterAccess" .root | nindent 4 }}
{{- end -}}

{{/* The mount of what asks the API server: the token of the pod, or a kubeconfig for another cluster. */}}
{{- define "cinder-csi.clusterAccess" -}}
- name: kube-api-access
  mountPath: {{ empty .Values.controller.kubeconfig.secretName | ternary "/var/run/secrets/kubernetes.io/serviceaccount" "/etc/kubeconfig" }}
  readOnly: true
{{- end -}}
