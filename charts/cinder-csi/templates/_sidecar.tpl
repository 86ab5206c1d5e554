{{/* The container of a sidecar of the controller. Takes root, sidecar, name and args. */}}
{{- define "cinder-csi.sidecar" -}}
{{- $values := index .root.Values.sidecars .sidecar -}}
- name: {{ .name }}
  image: {{ include "cinder-csi.image" (dict "image" $values.image "name" (printf "sidecars.%s" .sidecar)) | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    - --leader-election=true
    - --leader-election-namespace=$(NAMESPACE)
    {{- .args | nindent 4 }}
    - --kube-api-qps={{ $values.kubeAPIQPS }}
    - --kube-api-burst={{ $values.kubeAPIBurst }}
    - --retry-interval-max={{ $values.retryIntervalMax }}
    - --http-endpoint=:{{ $values.httpPort }}
    - --v={{ .root.Values.logging.verbosity }}
    {{- range $values.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - name: NAMESPACE
      valueFrom:
        fieldRef:
          fieldPath: metadata.namespace
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
    httpGet:
      path: /healthz/leader-election
      port: {{ .sidecar }}
    {{- toYaml .root.Values.controller.sidecarLivenessProbe | nindent 4 }}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  securityContext:
    {{- toYaml .root.Values.controller.securityContext | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - name: socket
      mountPath: /csi
    - name: kube-api-access
      mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      readOnly: true
{{- end -}}
