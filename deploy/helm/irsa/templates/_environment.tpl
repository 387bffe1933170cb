{{/* The service's environment as a map: what other values say, then `settings`. */}}
{{- define "irsa.environment" -}}
OIDC_PROVIDER: {{ .Values.env.oidc_provider | quote }}
OIDC_PROVIDER_AUDIENCE: {{ .Values.env.oidc_provider_audience | quote }}
DOMINO_ISSUER: {{ .Values.env.domino_issuer | quote }}
AWS_REGION: {{ .Values.env.aws_region | quote }}
DEFAULT_FIELD_NS: {{ include "irsa.field" . | quote }}
DEFAULT_COMPUTE_NS: {{ include "irsa.compute" . | quote }}
DEPLOYMENT_NAME: {{ include "irsa.name" . }}
{{- if not (include "irsa.setting" (list . "EARLIER_DEPLOYMENT" "")) }}
EARLIER_DEPLOYMENT: {{ include "irsa.earlierDeployment" . }}
{{- end }}
{{- if not (include "irsa.setting" (list . "DOMINO_USER_HOST" "")) }}
DOMINO_USER_HOST: http://nucleus-frontend.{{ include "irsa.platform" . }}:80
{{- end }}
{{- if .Values.podIdentity.enabled }}
DEFAULT_PLATFORM_NS: {{ include "irsa.platform" . | quote }}
EKS_CLUSTER_NAME: {{ .Values.podIdentity.clusterName | quote }}
{{- end }}
{{- if eq (include "irsa.tlsMode" .) "off" }}
SSL_OFF: "true"
{{- end }}
{{- if not .Values.console.enabled }}
CONSOLE_ENABLED: "false"
{{- end }}
{{- with .Values.console.clientId }}
CONSOLE_CLIENT_ID: {{ . | quote }}
{{- end }}
{{- with .Values.monitoring.prometheusRule.runbookUrl }}
RUNBOOK_URL: {{ . | quote }}
{{- end }}
{{- include "irsa.proxy" . }}
{{- if or .Values.ca.configMap .Values.ca.secret }}
NODE_EXTRA_CA_CERTS: {{ include "irsa.caFolder" . }}/ca.crt
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
{{ $name }}: {{ include "irsa.text" $value | quote }}
{{- end }}
{{- end }}
{{- end }}
