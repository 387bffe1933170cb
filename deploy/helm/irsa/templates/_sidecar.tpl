{{/* Whether the users' containers get AWS_WEB_IDENTITY_TOKEN_FILE: "true" or nothing. */}}
{{- define "irsa.exposesToken" -}}
{{- if .Values.irsa_client_sidecar.exposeTokenVariable }}true{{ end }}
{{- end }}

{{/*
`process` or `chain`. Unless set, an installation whose Mutation is in the cluster without the volume of the sessions keeps
`chain`, and all others get `process`: docs/decisions/0005-process-credentials.md.
*/}}
{{- define "irsa.credentials" -}}
{{- $sidecar := .Values.irsa_client_sidecar -}}
{{- if eq $sidecar.mode "none" }}chain
{{- else if $sidecar.credentials }}{{ $sidecar.credentials }}
{{- else }}
{{- $old := dict }}
{{- if .Capabilities.APIVersions.Has "apps.dominodatalab.com/v1alpha1/Mutation" }}
{{- $old = lookup "apps.dominodatalab.com/v1alpha1" "Mutation" (include "irsa.platform" .) (include "irsa.mutationName" .) | default dict }}
{{- end }}
{{- if and $old (not (contains "irsa-credentials" (toJson $old))) }}chain{{ else }}process{{ end }}
{{- end }}
{{- end }}

{{/* The folder of the sessions, where the sidecar holds them; else nothing. */}}
{{- define "irsa.credentialsFolder" -}}
{{- if eq (include "irsa.credentials" .) "process" }}/var/run/irsa-credentials{{ end }}
{{- end }}

{{/*
The volume with the web identity token. For a service account with the annotation eks.amazonaws.com/role-arn, EKS's webhook
adds a volume `aws-iam-token` at its own path, which is the default of ours too: one path takes one mount. It leaves a
container alone that has AWS_WEB_IDENTITY_TOKEN_FILE, a region and AWS_STS_REGIONAL_ENDPOINTS, and mounts nothing where a
volume of its name is mounted already. So where the variable is left out, our volume has that name, and the role of the
annotation works with our token.
*/}}
{{- define "irsa.tokenVolume" -}}
{{- $isWebhooks := eq (dir (include "irsa.tokenFile" .)) "/var/run/secrets/eks.amazonaws.com/serviceaccount" -}}
{{- if and $isWebhooks (not (include "irsa.exposesToken" .)) }}aws-iam-token{{ else }}aws-user-token{{ end }}
{{- end }}

{{/* The folder of the role tokens in workloads. */}}
{{- define "irsa.roleTokenDir" -}}
{{- include "irsa.setting" (list . "ROLE_TOKEN_DIR" "/var/run/.aws/tokens") }}
{{- end }}

{{/* How long a role token lives, in seconds. */}}
{{- define "irsa.roleTokenSeconds" -}}
{{- include "irsa.setting" (list . "ROLE_TOKEN_SECONDS" "3600") }}
{{- end }}

{{/* What the sidecar and the user's containers both have mounted. */}}
{{- define "irsa.workloadMounts" -}}
- name: aws-config-file
  mountPath: /var/run/.aws
- name: {{ include "irsa.tokenVolume" . }}
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

{{/* The sidecar's environment as a map: docs/sidecar.md, and `irsa_client_sidecar.settings` over it. */}}
{{- define "irsa.sidecarEnvironment" -}}
POD_INFO_PATH: /var/run/podinfo/labels
DOMINO_API_PROXY: http://localhost:8899
DOMINO_IRSA_ENDPOINT: {{ include "irsa.endpoint" . }}/map_iam_roles_to_pod_sa
{{- if include "irsa.caForWorkloads" . }}
DOMINO_IRSA_SSL_CERT: /etc/ssl/certs/irsa/ca.crt
{{- end }}
{{- if eq (include "irsa.tlsMode" .) "off" }}
# The mesh does the TLS, so the sidecar itself speaks plain HTTP.
IRSA_TLS_VERIFY: "false"
{{- end }}
AWS_CONFIG_FILE: /var/run/.aws/config
AWS_WEB_IDENTITY_TOKEN_FILE: {{ include "irsa.tokenFile" . }}
{{- if .Values.roleTokens.enabled }}
ROLE_TOKEN_DIR: {{ include "irsa.roleTokenDir" . }}
{{- end }}
AWS_REGION: {{ .Values.env.aws_region | quote }}
# Without it, EKS's webhook mounts its own token over ours: see irsa.tokenVolume.
AWS_STS_REGIONAL_ENDPOINTS: {{ .Values.env.aws_sts_regional_endpoints }}
IRSA_LOG_FILE: /var/log/irsa/app.log
{{- with include "irsa.credentialsFolder" . }}
IRSA_CREDENTIALS: process
IRSA_CREDENTIALS_DIR: {{ . }}
{{- if $.Values.irsa_client_sidecar.defaultCredentials }}
IRSA_DEFAULT_CREDENTIALS: "true"
{{- end }}
{{- end }}
{{- include "irsa.proxy" . }}
{{- if or .Values.irsa_client_sidecar.ca.configMap .Values.irsa_client_sidecar.ca.secret }}
NODE_EXTRA_CA_CERTS: {{ include "irsa.caFolder" . }}/ca.crt
{{- end }}
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
  {{- if .Values.roleTokens.enabled }}
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  {{- end }}
resources:
  {{- toYaml $sidecar.resources | nindent 2 }}
securityContext:
  {{- include "irsa.ownSecurityContext" . | nindent 2 }}
volumeMounts:
  {{- include "irsa.workloadMounts" . | nindent 2 }}
  {{- if .Values.roleTokens.enabled }}
  - name: irsa-role-tokens
    mountPath: {{ include "irsa.roleTokenDir" . }}
  {{- end }}
  {{- with include "irsa.credentialsFolder" . }}
  - name: irsa-credentials
    mountPath: {{ . }}
  {{- end }}
  {{- if or $sidecar.ca.configMap $sidecar.ca.secret }}
  - name: irsa-more-cas
    mountPath: {{ include "irsa.caFolder" . }}
    readOnly: true
  {{- end }}
  {{- with $sidecar.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
