{{/* What the side-car and the user's containers both have mounted. */}}
{{- define "irsa.workloadMounts" -}}
- name: aws-config-file
  mountPath: /var/run/.aws
- name: aws-user-token
  mountPath: {{ dir (include "irsa.tokenFile" .) }}
  readOnly: true
- name: podinfo
  mountPath: /var/run/podinfo
  readOnly: true
- name: irsa-logs
  mountPath: /var/log/irsa
{{- if include "irsa.caForWorkloads" . }}
- name: irsa-ssl-certs
  mountPath: /etc/ssl/certs/irsa
  readOnly: true
{{- end }}
{{- end }}

{{/* The side-car's environment as a map: docs/side-car.md, and `irsa_client_sidecar.settings` over it. */}}
{{- define "irsa.sidecarEnvironment" -}}
POD_INFO_PATH: /var/run/podinfo/labels
DOMINO_API_PROXY: http://localhost:8899
DOMINO_IRSA_ENDPOINT: {{ include "irsa.endpoint" . }}/map_iam_roles_to_pod_sa
{{- if include "irsa.caForWorkloads" . }}
DOMINO_IRSA_SSL_CERT: /etc/ssl/certs/irsa/ca.crt
{{- end }}
{{- if eq (include "irsa.tlsMode" .) "off" }}
# The mesh does the TLS, so the side-car itself speaks plain HTTP.
IRSA_TLS_VERIFY: "false"
{{- end }}
AWS_CONFIG_FILE: /var/run/.aws/config
AWS_WEB_IDENTITY_TOKEN_FILE: {{ include "irsa.tokenFile" . }}
AWS_REGION: {{ .Values.env.aws_region | quote }}
IRSA_LOG_FILE: /var/log/irsa/app.log
{{- range $name, $value := .Values.irsa_client_sidecar.settings }}
{{- if not (kindIs "invalid" $value) }}
{{ $name }}: {{ include "irsa.text" $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The container that domsed inserts. */}}
{{- define "irsa.sidecar" -}}
{{- $sidecar := .Values.irsa_client_sidecar -}}
name: aws-config-file-generator
image: {{ include "irsa.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [node, --jitless, --single-threaded, --max-semi-space-size=1, --expose-gc, dist/src/sidecar/main.js]
{{- if eq $sidecar.mode "native" }}
restartPolicy: Always
# /readyz, asked from inside, since it listens on 127.0.0.1: 200 when the config file is written and every role proved.
startupProbe:
  exec:
    {{- if eq (int $sidecar.native.maxWaitSeconds) 0 }}
    command: [node, dist/src/sidecar/main.js, probe]
    {{- else }}
    # After so many seconds since the pod got its volumes, the workload starts without.
    command:
      - sh
      - -c
      - node dist/src/sidecar/main.js probe || test $(( $(date +%s) - $(stat -c %Y "${POD_INFO_PATH%/*}") )) -ge {{ int $sidecar.native.maxWaitSeconds }}
    {{- end }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ max 150 (add 30 (div (int $sidecar.native.maxWaitSeconds) 2)) }}
{{- end }}
env:
  {{- range $name, $value := fromYaml (include "irsa.sidecarEnvironment" .) }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
resources:
  {{- toYaml $sidecar.resources | nindent 2 }}
securityContext:
  {{- include "irsa.containerSecurityContext" . | nindent 2 }}
volumeMounts:
  {{- include "irsa.workloadMounts" . | nindent 2 }}
{{- end }}
