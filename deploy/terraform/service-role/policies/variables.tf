variable "partition" {
  description = "The AWS partition: aws, aws-us-gov, aws-cn, …"
  type        = string
}

variable "account_id" {
  description = "The account of the cluster, the service's role and the proxy roles."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "An account is 12 digits."
  }
}

variable "region" {
  description = "The region of the cluster."
  type        = string
}

variable "namespace" {
  description = "The namespace of the service."
  type        = string
}

variable "service_account" {
  description = "The Kubernetes service account of the service."
  type        = string
}

variable "credentials" {
  description = "How the service's pods get the role: `irsa` or `pod-identity`."
  type        = string
}

variable "oidc_provider" {
  description = "The cluster's OIDC issuer without a scheme."
  type        = string
}

variable "oidc_audience" {
  description = "The audience of the pods' tokens."
  type        = string
}

variable "proxy_role_arns" {
  description = "The proxy roles, one by one."
  type        = list(string)
}

variable "proxy_role_prefix" {
  description = "What the path and name of every proxy role begin with, and of no other role."
  type        = string
}

variable "cluster_name" {
  description = "The EKS cluster, where Pod Identity is used in any way; else null."
  type        = string
}

variable "pod_identity_role_arns" {
  description = "The roles that the service may give to pods by Pod Identity; none keeps all of it away."
  type        = list(string)
}

variable "role_tokens" {
  description = "Whether roles are carried by tokens, whose audiences the service looks up in the OIDC provider."
  type        = bool
  default     = false
}
