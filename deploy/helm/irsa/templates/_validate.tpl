{{/*
What the schema cannot say, or could say only as a regular expression: each problem is a whole sentence. All of them are
told at once, one a line.
*/}}
{{- define "irsa.problems" -}}
{{- $env := .Values.env -}}
{{- $tls := .Values.tls -}}
{{- $sidecar := .Values.irsa_client_sidecar -}}
{{- $account := toString $env.eks_aws_account -}}
{{- $namespace := "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" -}}

{{- if not .Values.image.repository }}
image.repository: name the image that you built with the project's Dockerfile, without a tag: registry.example.com/irsa-svc.
{{- end }}
{{- $repository := .Values.image.repository -}}
{{- if or (contains "@" $repository) (contains "://" $repository) (contains ":" (base $repository)) }}
image.repository: give the image's name alone, which {{ $repository }} is not. What follows a colon goes to image.tag, and what follows an @ to image.digest; there is no https:// before it.
{{- end }}
{{- if and .Values.image.tag (not (regexMatch "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" .Values.image.tag)) }}
image.tag: expected up to 128 letters, digits, dots, hyphens and underscores.
{{- end }}
{{- $global := .Values.global | default dict -}}
{{- $registry := get $global "imageRegistry" | default "" | trimSuffix "/" -}}
{{- if and $registry (include "irsa.registry" .) (not (hasPrefix (printf "%s/" $registry) $repository)) }}
global.imageRegistry: it is {{ $registry }}, and image.repository names another registry, {{ include "irsa.registry" . }}. Leave the registry out of image.repository, or global.imageRegistry.
{{- end }}
{{- if .Chart.IsRoot }}
{{- range $name := keys $global | sortAlpha }}
{{- if not (has $name (list "imageRegistry" "imagePullSecrets")) }}
global.{{ $name }}: this chart does not use it. Of global, imageRegistry and imagePullSecrets count.
{{- end }}
{{- end }}
{{- end }}
{{- range list "serverContainer" "clientContainer" "serverAppVersion" "clientAppVersion" "memcachedContainer" "memcachedVersion" }}
{{- if hasKey $.Values.image . }}
image.{{ . }}: this is release 1.8's. One image holds both programs now: give image.repository (the whole name) and image.tag, and take this line out.
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
ingress.host: name the host of the console: irsa.acme.example.
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
httpRoute.parentRefs: name the Gateway that the console is reached by: [{ name: public, namespace: gateways }].
{{- end }}
{{- if and .Values.httpRoute.backendCaConfigMap (eq (include "irsa.tlsMode" .) "off") }}
httpRoute.backendCaConfigMap: with tls.mode off the service speaks plain HTTP, so there is no certificate to check. Take this line out.
{{- end }}
{{- if and .Values.image.digest (not (regexMatch "^sha256:[a-f0-9]{64}$" .Values.image.digest)) }}
image.digest: expected sha256: and 64 hexadecimal digits.
{{- end }}

{{- if not $env.oidc_provider }}
env.oidc_provider: give the issuer of the EKS cluster without https://. This prints it: aws eks describe-cluster --name <cluster> --query cluster.identity.oidc.issuer --output text
{{- else if contains "://" $env.oidc_provider }}
env.oidc_provider: leave out https://, since IAM names condition keys by the bare issuer.
{{- else if not (regexMatch "^[a-z0-9-]+(\\.[a-z0-9-]+)+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)+$" $env.oidc_provider) }}
env.oidc_provider: expected a host and a path without a slash at the end: oidc.eks.us-west-2.amazonaws.com/id/…
{{- end }}
{{- if not $env.domino_issuer }}
env.domino_issuer: give https://<domino>/auth/realms/DominoRealm, the address that people open Domino with. Release 1.8 had no such value; this release checks who signed a token.
{{- else if not (regexMatch "^https?://[^/?#@\\s]+(/[^/?#\\s]+)+$" $env.domino_issuer) }}
env.domino_issuer: expected https://<domino>/auth/realms/DominoRealm, without a slash at the end.
{{- end }}
{{- if not $env.aws_region }}
env.aws_region: give the region that the cluster is in, such as us-west-2.
{{- else if not (regexMatch "^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$" $env.aws_region) }}
env.aws_region: expected the name of an AWS region, such as us-west-2.
{{- end }}
{{- if and $env.aws_default_region (not (regexMatch "^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$" $env.aws_default_region)) }}
env.aws_default_region: expected the name of an AWS region, such as us-west-2.
{{- end }}
{{- if not (regexMatch "^[a-z]([a-z0-9-]{0,46}[a-z0-9])?$" $env.service) }}
env.service: expected the name of a Kubernetes service of up to 48 characters: lower-case letters, digits and hyphens, beginning with a letter.
{{- end }}
{{- range $key, $value := $env.namespace }}
{{- if not (regexMatch $namespace $value) }}
env.namespace.{{ $key }}: expected a Kubernetes namespace: up to 63 lower-case letters, digits and hyphens.
{{- end }}
{{- end }}
{{- if eq $env.namespace.field $env.namespace.compute }}
env.namespace.field: expected another namespace than env.namespace.compute, where users' code runs.
{{- end }}

{{- if and $account (kindIs "float64" $env.eks_aws_account) }}
env.eks_aws_account: put the account number in quotes, or YAML takes it for a number and loses zeros at its beginning.
{{- else if and $account (not (regexMatch "^[0-9]{12}$" $account)) }}
env.eks_aws_account: expected the twelve digits of the cluster's AWS account, in quotes.
{{- end }}
{{- if not .Values.serviceAccount.roleArn }}
{{- if and $env.eks_service_role_name (not $account) }}
env.eks_aws_account: give the cluster's AWS account, in which the role env.eks_service_role_name is; or give the whole ARN as serviceAccount.roleArn.
{{- end }}
{{- if and $env.eks_service_role_name (not (regexMatch "^/?([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}$" $env.eks_service_role_name)) }}
env.eks_service_role_name: expected the name of an IAM role, with its path if it has one, such as acme-irsa-svc. A whole ARN goes to serviceAccount.roleArn.
{{- end }}
{{- else if not (regexMatch "^arn:aws[a-z-]*:iam::[0-9]{12}:role/([\\x21-\\x7e]+/)*[A-Za-z0-9_+=,.@-]{1,64}$" .Values.serviceAccount.roleArn) }}
serviceAccount.roleArn: expected the ARN of an IAM role, such as arn:aws:iam::111111111111:role/acme-irsa-svc.
{{- else if not (hasPrefix (printf "arn:%s:" (include "irsa.partition" .)) .Values.serviceAccount.roleArn) }}
serviceAccount.roleArn: expected a role of partition {{ include "irsa.partition" . }}, which region {{ $env.aws_region }} is in. Set env.partition where that is wrong.
{{- end }}
{{- if and $env.govcloud (or (and $env.partition (ne $env.partition "aws-us-gov")) (and $env.aws_region (not (hasPrefix "us-gov-" $env.aws_region)))) }}
env.govcloud: it says aws-us-gov, and env.partition or env.aws_region says another partition. Take env.govcloud out: the partition follows from the region.
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
serviceAccount.name: name the account that exists, since serviceAccount.create is false.
{{- end }}
{{- range $name, $value := omit ($env.proxy | default dict) "no_proxy" }}
{{- if and $value (not (regexMatch "^(https?://)?[^/?#\\s]+/?$" $value)) }}
env.proxy.{{ $name }}: expected the address of a forward proxy, such as http://proxy.acme.example:3128.
{{- end }}
{{- end }}
{{- $cas := dict "ca" .Values.ca "irsa_client_sidecar.ca" $sidecar.ca }}
{{- range $path, $ca := $cas }}
{{- if and $ca.configMap $ca.secret }}
{{ $path }}: give a ConfigMap or a Secret, and not both.
{{- end }}
{{- end }}
{{- if and (or $sidecar.ca.configMap $sidecar.ca.secret) (hasKey $sidecar.settings "NODE_EXTRA_CA_CERTS") }}
irsa_client_sidecar.settings.NODE_EXTRA_CA_CERTS: irsa_client_sidecar.ca sets it; take one of the two out.
{{- end }}
{{- range .Values.tolerations }}
{{- if and (eq (get . "operator" | default "Equal") "Exists") (get . "value") }}
tolerations: one with operator Exists takes no value, and this one has {{ .value }}.
{{- else if and (eq (get . "operator" | default "Equal") "Equal") (not (get . "key")) }}
tolerations: one without a key needs operator Exists.
{{- end }}
{{- end }}
{{- $page := .Values.monitoring.prometheusRule.runbookUrl -}}
{{- if and $page (not (regexMatch "^https?://[^\\s#\"']+$" $page)) }}
monitoring.prometheusRule.runbookUrl: expected the URL of a page, without a # in it.
{{- end }}
{{- if and .Values.console.url (not (regexMatch "^https?://[^\\s#\"'{}]+/console$" .Values.console.url)) }}
console.url: expected the address of the console, such as https://irsa.acme.example/console.
{{- end }}
{{- $istio := .Values.istio -}}
{{- if kindIs "map" $istio }}{{ $istio = get $istio "enabled" }}{{ end }}
{{- if $istio }}
istio.enabled: this is release 1.8's. Where a mesh does the TLS, set tls.mode to off; else take this out.
{{- end }}

{{- if eq (include "irsa.port" .) (include "irsa.metricsPort" .) }}
settings.PROMETHEUS_METRICS_PORT: expected another port than settings.PORT.
{{- end }}
{{- if or (lt (int (include "irsa.port" .)) 1024) (lt (int (include "irsa.metricsPort" .)) 1024) }}
settings.PORT, settings.PROMETHEUS_METRICS_PORT: expected ports from 1024 on, since the service runs without privileges.
{{- end }}
{{- $cert := include "irsa.certFile" . -}}
{{- $token := include "irsa.tokenFile" . -}}
{{- if ne (dir $cert) (dir (include "irsa.keyFile" .)) }}
settings.TLS_KEY_FILE: expected the same folder as settings.TLS_CERT_FILE, where the Secret is mounted.
{{- else if eq (base $cert) (base (include "irsa.keyFile" .)) }}
settings.TLS_KEY_FILE: expected another file than settings.TLS_CERT_FILE.
{{- end }}
{{- /* A mount hides what a folder has, and one path takes one mount. */ -}}
{{- $taken := list "/" "/bin" "/dev" "/etc" "/etc/ssl" "/etc/ssl/certs" "/home" "/lib" "/opt" "/proc" "/root" "/run" "/sbin" "/sys" "/tmp" "/usr" "/usr/bin" "/usr/lib" "/usr/local" "/usr/local/bin" "/var" "/var/lib" "/var/log" "/var/run" "/var/run/secrets" "/var/run/secrets/kubernetes.io/serviceaccount" -}}
{{- if or (has (dir $cert) (append $taken "/var/run/secrets/eks.amazonaws.com/serviceaccount")) (hasPrefix "/app/" $cert) }}
settings.TLS_CERT_FILE: expected a file in a folder of its own, such as /ssl/tls.crt, since the Secret is mounted over the whole of {{ dir $cert }}.
{{- end }}
{{- if has (dir $token) (concat $taken (list "/var/run/.aws" "/var/run/podinfo" "/var/log/irsa" "/etc/ssl/certs/irsa")) }}
settings.WEB_IDENTITY_TOKEN_PATH: expected a file in a folder of its own, such as /var/run/secrets/acme/token, since the token is mounted over the whole of {{ dir $token }} in workloads.
{{- end }}
{{- /* What the chart's own parts go by, whether it is in the environment now or not: ports, probes, mounts, Roles. */ -}}
{{- $own := list "EARLIER_DEPLOYMENT" "PORT" "PROMETHEUS_METRICS_PORT" "TLS_CERT_FILE" "TLS_KEY_FILE" "WEB_IDENTITY_TOKEN_PATH" "ROLE_TOKEN_DIR" "ROLE_TOKEN_SECONDS" "GRANT_TIMEOUT_SECONDS" "SSL_OFF" "EKS_CLUSTER_NAME" "DEFAULT_PLATFORM_NS" -}}
{{- range .Values.extraEnv }}
{{- if eq .name "NODE_USE_ENV_PROXY" }}
extraEnv: NODE_USE_ENV_PROXY would send calls inside the cluster to the proxy. Use env.proxy, which is for calls to AWS alone.
{{- else if has .name $own }}
extraEnv: {{ .name }} is more than environment to the chart. Use {{ if eq .name "SSL_OFF" }}tls.mode{{ else if eq .name "EKS_CLUSTER_NAME" }}podIdentity{{ else if eq .name "DEFAULT_PLATFORM_NS" }}env.namespace.platform{{ else }}settings.{{ .name }}{{ end }}.
{{- else if or (hasKey (fromYaml (include "irsa.environment" $)) .name) (hasKey $.Values.settings .name) }}
extraEnv: {{ .name }} is set by a value of the chart already; use that one.
{{- end }}
{{- end }}

{{- if and (eq (include "irsa.tlsMode" .) "secret") (not $tls.existingSecret) }}
tls.existingSecret: name the Secret in {{ $env.namespace.field }} that holds tls.crt and tls.key, since tls.mode is secret.
{{- end }}
{{- if and (ne (include "irsa.tlsMode" .) "secret") $tls.existingSecret }}
tls.existingSecret: it is used with tls.mode secret alone, and tls.mode is {{ include "irsa.tlsMode" . }}.
{{- end }}
{{- if eq (include "irsa.tlsMode" .) "cert-manager" }}
{{- $life := include "irsa.seconds" $tls.certManager.duration | int64 }}
{{- if le $life (include "irsa.seconds" $tls.certManager.renewBefore | int64) }}
tls.certManager.renewBefore: expected less than tls.certManager.duration ({{ $tls.certManager.duration }}).
{{- end }}
{{- if and (include "irsa.ownCa" .) (le (include "irsa.seconds" $tls.certManager.caDuration | int64) $life) }}
tls.certManager.caDuration: expected more than tls.certManager.duration ({{ $tls.certManager.duration }}), or the certificate outlives its CA.
{{- end }}
{{- end }}
{{- if and $tls.certManager.issuerRef (not $tls.certManager.issuerRef.name) }}
tls.certManager.issuerRef: give its name.
{{- end }}
{{- if and (eq $tls.ca.method "pem") (not (contains "-----BEGIN CERTIFICATE-----" $tls.ca.pem)) }}
tls.ca.pem: give the CA's certificate as PEM text, from -----BEGIN CERTIFICATE----- on, since tls.ca.method is pem.
{{- end }}
{{- if contains "PRIVATE KEY" $tls.ca.pem }}
tls.ca.pem: it holds a private key. Workloads get this text: give certificates alone.
{{- end }}
{{- if and $tls.ca.pem (ne $tls.ca.method "pem") }}
tls.ca.pem: it is used with tls.ca.method pem alone, and tls.ca.method is {{ $tls.ca.method }}.
{{- end }}
{{- if and (include "irsa.ownCa" .) (has $tls.ca.method (list "none" "trust-manager")) }}
tls.ca.method: with {{ $tls.ca.method }} no workload gets the CA that the chart makes, which is in {{ $env.namespace.field }}{{ if eq $tls.ca.method "trust-manager" }}, where trust-manager does not look{{ end }}. Use copy, or name an issuer of yours in tls.certManager.issuerRef.
{{- else if and (eq $tls.ca.method "trust-manager") (ne (include "irsa.tlsMode" .) "off") (not $tls.ca.trustManager.secretName) }}
tls.ca.trustManager.secretName: name the Secret in trust-manager's own namespace that holds the CA of the certificate's issuer.
{{- end }}

{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.egress.enabled (not .Values.networkPolicy.egress.rules) }}
networkPolicy.egress.rules: let the API server, IAM and STS through, or the service reaches none of them and never gets ready.
{{- end }}
{{- if and .Values.podIdentity.enabled (not .Values.podIdentity.clusterName) }}
podIdentity.clusterName: give the name of the EKS cluster, since podIdentity.enabled is true.
{{- end }}
{{- if and .Values.podIdentity.clusterName (not (regexMatch "^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$" .Values.podIdentity.clusterName)) }}
podIdentity.clusterName: expected the name of an EKS cluster, not its ARN: up to 100 letters, digits, hyphens and underscores.
{{- end }}
{{- if and .Values.podIdentity.enabled .Values.userbasedserviceaccounts.enabled }}
userbasedserviceaccounts.enabled: with podIdentity.enabled, the service keeps a Mutation of its own that says which user has which service account. Two would contradict each other: choose one.
{{- end }}

{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" }}
{{- if hasKey $.Values.podLabels $label }}
podLabels: {{ $label }} is the chart's own: the Service finds the replicas by it.
{{- end }}
{{- end }}
{{- if include "irsa.roleArn" . }}
{{- range $annotation := list "eks.amazonaws.com/role-arn" "eks.amazonaws.com/audience" }}
{{- if hasKey $.Values.serviceAccount.annotations $annotation }}
serviceAccount.annotations: {{ $annotation }} follows from serviceAccount.roleArn or env; take it out here.
{{- end }}
{{- end }}
{{- end }}
{{- $amounts := dict "irsa_client_sidecar.logsSizeLimit" $sidecar.logsSizeLimit "irsa_client_sidecar.configSizeLimit" $sidecar.configSizeLimit }}
{{- range $path, $resources := dict "resources" .Values.resources "tls.ca.resources" $tls.ca.resources "irsa_client_sidecar.resources" $sidecar.resources }}
{{- range $kind := list "requests" "limits" }}
{{- range $name, $amount := get $resources $kind | default dict }}
{{- $_ := set $amounts (printf "%s.%s.%s" $path $kind $name) $amount }}
{{- end }}
{{- end }}
{{- end }}
{{- range $path, $amount := $amounts }}
{{- if not (or (kindIs "invalid" $amount) (regexMatch "^[0-9]+([.][0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$" (include "irsa.text" $amount))) }}
{{ $path }}: expected an amount as Kubernetes writes it, such as 64Mi, which {{ $amount }} is not.
{{- end }}
{{- end }}

{{- if $sidecar.enabled }}
{{- $grant := float64 (include "irsa.setting" (list . "GRANT_TIMEOUT_SECONDS" 25)) }}
{{- $patience := float64 (toString (get $sidecar.settings "IRSA_REQUEST_TIMEOUT_SECONDS" | default 60)) }}
{{- if le $patience $grant }}
irsa_client_sidecar.settings.IRSA_REQUEST_TIMEOUT_SECONDS: expected more than settings.GRANT_TIMEOUT_SECONDS ({{ $grant }}), or the sidecar hangs up before the service answers.
{{- end }}
{{- if and $sidecar.defaultCredentials .Values.podIdentity.enabled }}
irsa_client_sidecar.defaultCredentials: Pod Identity gives the default credentials (podIdentity.enabled); take one of the two out.
{{- end }}
{{- if and $sidecar.defaultCredentials (ne (include "irsa.credentials" .) "process") }}
irsa_client_sidecar.defaultCredentials: needs irsa_client_sidecar.credentials process, in a mode with a sidecar.
{{- end }}
{{- if not $sidecar.labelSelectors }}
irsa_client_sidecar.labelSelectors: name at least one, or every pod in {{ $env.namespace.compute }} gets the sidecar.
{{- end }}
{{- end }}
{{- end }}

{{/* What the cluster lacks: Helm's own error names a kind, and not what would bring it. */}}
{{- define "irsa.lacking" -}}
{{- $has := .Capabilities.APIVersions -}}
{{- /* `helm template` knows no cluster, and lists groups without kinds. */ -}}
{{- if $has.Has "apps/v1/Deployment" }}
{{- if and (eq (include "irsa.tlsMode" .) "cert-manager") (not ($has.Has "cert-manager.io/v1/Certificate")) }}
tls.mode: cert-manager is not in this cluster. Install it, or make a certificate yourself and set tls.mode to secret.
{{- end }}
{{- if and (eq .Values.tls.ca.method "trust-manager") (not ($has.Has "trust.cert-manager.io/v1alpha1/Bundle")) }}
tls.ca.method: trust-manager is not in this cluster. Install it, or choose another method.
{{- end }}
{{- if and (or .Values.irsa_client_sidecar.enabled .Values.userbasedserviceaccounts.enabled .Values.podIdentity.enabled) (not ($has.Has "apps.dominodatalab.com/v1alpha1/Mutation")) }}
irsa_client_sidecar.enabled: domsed is not in this cluster. Install it, or set irsa_client_sidecar.enabled, userbasedserviceaccounts.enabled and podIdentity.enabled to false.
{{- end }}
{{- include "irsa.namespaceProblems" . }}
{{- if and .Values.monitoring.serviceMonitor.enabled (not ($has.Has "monitoring.coreos.com/v1/ServiceMonitor")) }}
monitoring.serviceMonitor.enabled: the Prometheus operator is not in this cluster. Install it, or set this to false.
{{- end }}
{{- if and .Values.monitoring.prometheusRule.enabled (not ($has.Has "monitoring.coreos.com/v1/PrometheusRule")) }}
monitoring.prometheusRule.enabled: the Prometheus operator is not in this cluster. Install it, or set this to false.
{{- end }}
{{- end }}
{{- end }}

{{/*
Namespaces that are not there: Helm would make all that is in others, and leave a release that failed. The release's own is
Helm's matter: it may be about to make it (--create-namespace). `helm template` and `--dry-run` find nothing by `lookup`: it
tells something where it finds two of these, or `default`, which is asked for last, since it takes a right of its own.
*/}}
{{- define "irsa.namespaceProblems" -}}
{{- $values := dict "env.namespace.field" (include "irsa.field" .) "env.namespace.compute" (include "irsa.compute" .) }}
{{- if or .Values.irsa_client_sidecar.enabled .Values.userbasedserviceaccounts.enabled .Values.podIdentity.enabled }}
{{- $_ := set $values "env.namespace.platform" (include "irsa.platform" .) }}
{{- end }}
{{- with .Values.monitoring.dashboard }}
{{- if and .enabled .namespace }}
{{- $_ := set $values "monitoring.dashboard.namespace" .namespace }}
{{- end }}
{{- end }}
{{- $found := list }}
{{- $lacking := dict }}
{{- range $name := append (values $values) .Release.Namespace | uniq }}
{{- if lookup "v1" "Namespace" "" $name }}{{ $found = append $found $name }}{{ else }}{{ $_ := set $lacking $name true }}{{ end }}
{{- end }}
{{- if and $lacking (or (gt (len $found) 1) (lookup "v1" "Namespace" "" "default")) }}
{{- range $path, $name := $values }}
{{- if and (hasKey $lacking $name) (ne $name $.Release.Namespace) }}
{{ $path }}: there is no namespace {{ $name }} in this cluster. Give the name of the one that there is, or make it first.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The labels, by which Domino's network policies know it, that the field namespace lacks: label=value, with spaces between.
Nothing where it is not there yet, or no cluster is asked: `helm template`, `--dry-run`.
*/}}
{{- define "irsa.namespaceLacks" -}}
{{- $found := lookup "v1" "Namespace" "" (include "irsa.field" .) -}}
{{- if $found -}}
{{- $labels := dig "metadata" "labels" dict $found | default dict -}}
{{- range list "domino-compute" "domino-platform" }}{{ if ne (toString (get $labels .)) "true" }}{{ . }}=true {{ end }}{{ end }}
{{- end -}}
{{- end }}

{{- define "irsa.validate" -}}
{{- $problems := list }}
{{- range splitList "\n" (printf "%s\n%s" (include "irsa.problems" .) (include "irsa.lacking" .)) }}
{{- if trim . }}{{ $problems = append $problems (printf "  - %s" (trim .)) }}{{ end }}
{{- end }}
{{- if $problems }}
{{- fail (printf "\n\nThe values cannot be used:\n%s\n" (join "\n" ($problems | uniq))) }}
{{- end }}
{{- end }}
