variable "name" {
  description = "The name of the role."
  type        = string
  default     = "irsa-svc"

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", var.name))
    error_message = "A role's name is 1 to 64 letters, digits or +=,.@_- and has no path: that is `path`."
  }
}

variable "path" {
  description = "The path of the role, with a slash at both ends."
  type        = string
  default     = "/"

  validation {
    condition     = can(regex("^/([A-Za-z0-9+=,.@_-]+/)*$", var.path))
    error_message = "A path begins and ends with a slash, such as /domino/."
  }
}

variable "permissions_boundary" {
  description = "The ARN of a policy that bounds the role, where the organization wants one."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags on everything that is made here."
  type        = map(string)
  default     = {}
}

variable "region" {
  description = "The region of the cluster; runs find it in their profiles."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2,}(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "A region looks like us-west-2."
  }
}

variable "oidc_provider" {
  description = "The cluster's OIDC issuer without a scheme: oidc.eks.us-west-2.amazonaws.com/id/…"
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9.-]+(/[A-Za-z0-9._~-]+)*$", var.oidc_provider))
    error_message = "The issuer is given without https:// and without a slash at the end."
  }
}

variable "oidc_audience" {
  description = "The audience of the pods' tokens."
  type        = string
  default     = "sts.amazonaws.com"

  validation {
    condition     = can(regex("^[A-Za-z0-9._:/-]+$", var.oidc_audience))
    error_message = "An audience is one word, such as sts.amazonaws.com."
  }
}

variable "credentials" {
  description = "How the service's pods get the role: `irsa` (their web identity token) or `pod-identity` (EKS hands it to them; needs its agent in the cluster and `cluster_name`)."
  type        = string
  default     = "irsa"

  validation {
    condition     = contains(["irsa", "pod-identity"], var.credentials)
    error_message = "credentials is irsa or pod-identity."
  }
}

variable "namespace" {
  description = "The namespace of the service."
  type        = string
  default     = "domino-field"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "A namespace is lower-case letters, digits and hyphens, without a wildcard."
  }
}

variable "service_account" {
  description = "The Kubernetes service account of the service, as in the Helm chart."
  type        = string
  default     = "irsa-svc"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", var.service_account))
    error_message = "A service account is lower-case letters, digits, hyphens and dots, without a wildcard."
  }
}

variable "proxy_role_arns" {
  description = "The proxy roles whose trust policies the service keeps, one by one."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for arn in var.proxy_role_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))
    ])
    error_message = "Each is a role's ARN, such as arn:aws:iam::111111111111:role/acme-list-bucket-role, without a wildcard."
  }

  validation {
    condition     = length(var.proxy_role_arns) > 0 || var.proxy_role_prefix != null
    error_message = "Give proxy_role_arns, or proxy_role_prefix, or both: without them the service can do nothing."
  }
}

variable "proxy_role_prefix" {
  description = "In place of a list: what the path and name of every proxy role begin with, and of no other role, such as `acme-` or `domino/proxies/`. The service may then change the trust policy of every such role."
  type        = string
  default     = null

  validation {
    condition     = var.proxy_role_prefix == null || can(regex("^[A-Za-z0-9+=,.@_-][A-Za-z0-9+=,.@_/-]{2,}$", var.proxy_role_prefix))
    error_message = "At least 3 characters, no slash at the beginning and no wildcard: an asterisk is put after it."
  }

  validation {
    condition     = var.proxy_role_prefix == null || !startswith(trimprefix("${var.path}${var.name}", "/"), coalesce(var.proxy_role_prefix, "-"))
    error_message = "The prefix covers the service's own role: the service could then let others take it. Choose another prefix, name or path."
  }
}

variable "cluster_name" {
  description = "The EKS cluster; needed where `credentials` is `pod-identity`, or pods are to get roles by Pod Identity."
  type        = string
  default     = null

  validation {
    condition     = var.cluster_name == null || can(regex("^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$", var.cluster_name))
    error_message = "A cluster's name is letters, digits, hyphens and underscores: the name, not the ARN."
  }

  validation {
    condition     = var.cluster_name != null || (var.credentials == "irsa" && length(var.pod_identity_role_arns) == 0)
    error_message = "Pod Identity needs cluster_name."
  }
}

variable "pod_identity_role_arns" {
  description = "Switches Pod Identity for Domino users on: the roles, in the cluster's account, that an administrator may map users to. The service may pass these roles, and no others, to pods."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for arn in var.pod_identity_role_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))
    ])
    error_message = "Each is a role's ARN, such as arn:aws:iam::111111111111:role/acme-svc-user-1-role, without a wildcard."
  }
}

variable "role_tokens" {
  description = "Whether roles are carried by tokens: the service then looks up whether the cluster's OIDC provider lists their audiences."
  type        = bool
  default     = false
}
