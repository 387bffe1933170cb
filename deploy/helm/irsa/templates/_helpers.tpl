{{/* The Deployment, the Service and most else. */}}
{{- define "irsa.name" -}}
{{ .Values.env.service }}
{{- end }}

{{- define "irsa.field" -}}
{{ .Values.env.namespace.field }}
{{- end }}

{{- define "irsa.compute" -}}
{{ .Values.env.namespace.compute }}
{{- end }}

{{- define "irsa.platform" -}}
{{ .Values.env.namespace.platform }}
{{- end }}

{{/* By these a Service, a policy or a person finds the replicas. */}}
{{- define "irsa.selectorLabels" -}}
app.kubernetes.io/name: irsa-svc
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of all objects but the replicas' pods, which `component` tells apart. */}}
{{- define "irsa.labels" -}}
{{ include "irsa.selectorLabels" . }}
{{ include "irsa.commonLabels" . }}
{{- end }}

{{- define "irsa.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: irsa
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- range $name, $value := .Values.commonLabels }}
{{- if not (hasPrefix "app.kubernetes.io/" $name) }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The registry in image.repository, as Docker tells it from a name: it has a dot or a port, or is localhost. */}}
{{- define "irsa.registry" -}}
{{- $parts := splitList "/" .Values.image.repository -}}
{{- $first := first $parts -}}
{{- if and (gt (len $parts) 1) (or (regexMatch "[.:]" $first) (eq $first "localhost")) }}{{ $first }}{{ end }}
{{- end }}

{{- define "irsa.image" -}}
{{- $registry := dig "imageRegistry" "" (.Values.global | default dict) | default "" -}}
{{- if and $registry (not (include "irsa.registry" .)) }}{{ trimSuffix "/" $registry }}/{{ end -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* imagePullSecrets of our pods: the chart's own and global.imagePullSecrets, which may be names alone. Nothing, or a list. */}}
{{- define "irsa.pullSecrets" -}}
{{- $secrets := .Values.image.pullSecrets | default list -}}
{{- range dig "imagePullSecrets" list (.Values.global | default dict) | default list -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- with $secrets | uniq }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/* Proxies for calls to AWS as a map of environment variables. */}}
{{- define "irsa.proxy" -}}
{{- range $name, $value := .Values.env.proxy | default dict }}
{{- if $value }}
{{ upper $name }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where the key of a ConfigMap or Secret with more CAs is mounted. */}}
{{- define "irsa.caFolder" -}}
/etc/ssl/certs/irsa-ca
{{- end }}

{{/* The volume with more CAs. Takes a list: the value `ca`, whether a pod starts without it. */}}
{{- define "irsa.caVolume" -}}
{{- $ca := index . 0 -}}
name: irsa-more-cas
{{ empty $ca.secret | ternary "configMap" "secret" }}:
  {{ empty $ca.secret | ternary "name" "secretName" }}: {{ $ca.secret | default $ca.configMap | quote }}
  {{- if index . 1 }}
  optional: true
  {{- end }}
  items:
    - { key: {{ $ca.key | quote }}, path: ca.crt }
{{- end }}

{{- define "irsa.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default .Values.env.service }}
{{- end }}

{{/*
What stands in namespaces that installations share is named after the service, so that two go together, also with 1.8. The
name that 1.8 and a first installation have is kept for `irsa-svc`. Takes a list: the root, that name, the end of others.
*/}}
{{- define "irsa.sharedName" -}}
{{- $service := include "irsa.name" (index . 0) -}}
{{- if eq $service "irsa-svc" -}}
{{ index . 1 }}
{{- else -}}
{{ $service }}{{ index . 2 }}
{{- end -}}
{{- end }}

{{- define "irsa.mutationName" -}}
{{ include "irsa.sharedName" (list . "irsa" "") }}
{{- end }}

{{/* The ConfigMap of the compute namespace with the CA to trust. */}}
{{- define "irsa.caConfigMap" -}}
{{ .Values.tls.ca.configMap | default (include "irsa.sharedName" (list . "irsa-ca" "-ca")) }}
{{- end }}

{{/* Of ARNs: AWS names a partition by the beginning of its regions' names. */}}
{{- define "irsa.partition" -}}
{{- $region := .Values.env.aws_region -}}
{{- if .Values.env.partition -}}
{{ .Values.env.partition }}
{{- else if or .Values.env.govcloud (hasPrefix "us-gov-" $region) -}}
aws-us-gov
{{- else if hasPrefix "cn-" $region -}}
aws-cn
{{- else if hasPrefix "us-iso-" $region -}}
aws-iso
{{- else if hasPrefix "us-isob-" $region -}}
aws-iso-b
{{- else if hasPrefix "eu-isoe-" $region -}}
aws-iso-e
{{- else if hasPrefix "us-isof-" $region -}}
aws-iso-f
{{- else if hasPrefix "eusc-" $region -}}
aws-eusc
{{- else -}}
aws
{{- end -}}
{{- end }}

{{/* Of the service's own role; empty where EKS Pod Identity gives it. */}}
{{- define "irsa.roleArn" -}}
{{- if .Values.serviceAccount.roleArn -}}
{{ .Values.serviceAccount.roleArn }}
{{- else if .Values.env.eks_service_role_name -}}
arn:{{ include "irsa.partition" . }}:iam::{{ .Values.env.eks_aws_account }}:role/{{ trimPrefix "/" .Values.env.eks_service_role_name }}
{{- end -}}
{{- end }}

{{/* A duration as Go writes it, in seconds from a day that is always the same. Takes its text. */}}
{{- define "irsa.seconds" -}}
{{ toDate "2006-01-02" "2000-01-01" | dateModify . | unixEpoch }}
{{- end }}

{{/* A value as text: Helm reads numbers as floats, and would write 1e+06. */}}
{{- define "irsa.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{/* One of `settings`, or what the service takes unless it is set. Takes a list: the root, the name, the default. */}}
{{- define "irsa.setting" -}}
{{- $value := get (index . 0).Values.settings (index . 1) -}}
{{- if or (kindIs "invalid" $value) (eq (toString $value) "") -}}
{{ index . 2 }}
{{- else -}}
{{ include "irsa.text" $value }}
{{- end -}}
{{- end }}

{{- define "irsa.port" -}}
{{ include "irsa.setting" (list . "PORT" 6000) }}
{{- end }}

{{- define "irsa.metricsPort" -}}
{{ include "irsa.setting" (list . "PROMETHEUS_METRICS_PORT" 8080) }}
{{- end }}

{{/* Release 1.8's Deployment, which env.name named there. */}}
{{- define "irsa.earlierDeployment" -}}
{{ include "irsa.setting" (list . "EARLIER_DEPLOYMENT" (toString (get .Values.env "name" | default "irsa"))) }}
{{- end }}

{{- define "irsa.certFile" -}}
{{ include "irsa.setting" (list . "TLS_CERT_FILE" "/ssl/tls.crt") }}
{{- end }}

{{- define "irsa.keyFile" -}}
{{ include "irsa.setting" (list . "TLS_KEY_FILE" "/ssl/tls.key") }}
{{- end }}

{{/* Where workloads have their web identity token. */}}
{{- define "irsa.tokenFile" -}}
{{ include "irsa.setting" (list . "WEB_IDENTITY_TOKEN_PATH" "/var/run/secrets/eks.amazonaws.com/serviceaccount/token") }}
{{- end }}

{{/* YAML reads `off` without quotes as false. */}}
{{- define "irsa.tlsMode" -}}
{{ kindIs "bool" .Values.tls.mode | ternary "off" .Values.tls.mode }}
{{- end }}

{{/* The Secret with the service's certificate. */}}
{{- define "irsa.tlsSecret" -}}
{{- if eq (include "irsa.tlsMode" .) "secret" -}}
{{ .Values.tls.existingSecret }}
{{- else -}}
{{ include "irsa.name" . }}-tls
{{- end -}}
{{- end }}

{{/* Whether the chart makes a CA: "true" or nothing. */}}
{{- define "irsa.ownCa" -}}
{{- if and (eq (include "irsa.tlsMode" .) "cert-manager") (not .Values.tls.certManager.issuerRef) }}true{{ end }}
{{- end }}

{{/* Whether workloads get a CA to trust, from a ConfigMap: "true" or nothing. */}}
{{- define "irsa.caForWorkloads" -}}
{{- if and (ne (include "irsa.tlsMode" .) "off") (ne .Values.tls.ca.method "none") }}true{{ end }}
{{- end }}

{{/* Whether the pod that copies the CA runs: "true" or nothing. */}}
{{- define "irsa.copiesCa" -}}
{{- if and (ne (include "irsa.tlsMode" .) "off") (eq .Values.tls.ca.method "copy") }}true{{ end }}
{{- end }}

{{- define "irsa.caPublisherName" -}}
{{ include "irsa.name" . }}-ca-publisher
{{- end }}

{{- define "irsa.endpoint" -}}
{{- if eq (include "irsa.tlsMode" .) "off" }}http{{ else }}https{{ end }}://{{ include "irsa.name" . }}.{{ include "irsa.field" . }}
{{- end }}

{{/* What every container of ours may do: nothing beyond running, but for what `securityContext` says. */}}
{{- define "irsa.containerSecurityContext" -}}
{{- $own := fromYaml (include "irsa.ownSecurityContext" .) -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.securityContext)) -}}
{{- end }}

{{- define "irsa.ownSecurityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Of our pods in the field namespace: the certificate's key and the tokens are readable for the group. */}}
{{- define "irsa.podSecurityContext" -}}
{{- $own := dict "runAsNonRoot" true "runAsUser" 1000 "runAsGroup" 1000 "fsGroup" 1000 "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.podSecurityContext)) -}}
{{- end }}

{{/* A namespaceSelector's terms for one or more namespaces; Kubernetes puts this label on each. Takes their names. */}}
{{- define "irsa.fromNamespaces" -}}
{{- $terms := list }}
{{- range . | uniq }}
{{- $terms = append $terms (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .))) }}
{{- end }}
{{- toYaml $terms }}
{{- end }}

{{/* The host that people reach the console at from outside the cluster; nothing where there is none. */}}
{{- define "irsa.consoleUrl" -}}
{{- if not .Values.console.enabled -}}
{{- else if .Values.console.url -}}
{{ .Values.console.url }}
{{- else if .Values.ingress.enabled -}}
https://{{ .Values.ingress.host }}/console
{{- else if and .Values.httpRoute.enabled .Values.httpRoute.hostnames -}}
https://{{ first .Values.httpRoute.hostnames }}/console
{{- end -}}
{{- end }}

{{/* Which page of the console an alert leads to: what it is about, else the overview. Prometheus fills in the labels. */}}
{{- define "irsa.consolePage" -}}
{{- if contains "$labels.role" .annotations.description -}}
{{ "{{ with $labels.role }}#/roles?arn={{ urlquery . }}{{ end }}" }}
{{- else if hasPrefix "IrsaPodIdentity" .alert -}}
#/pod-identity
{{- end -}}
{{- end }}
