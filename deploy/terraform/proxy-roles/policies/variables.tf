variable "partition" {
  description = "The AWS partition: aws, aws-us-gov, aws-cn, …"
  type        = string
}

variable "account_id" {
  description = "The account of the cluster and of the proxy roles."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "An account is 12 digits."
  }
}

variable "oidc_provider" {
  description = "The cluster's OIDC issuer without a scheme."
  type        = string
}

variable "oidc_audience" {
  description = "The audience of the pods' tokens."
  type        = string
}

variable "namespace" {
  description = "The namespace of the runs, whose service accounts may have tokens."
  type        = string
  default     = "domino-compute"
}

variable "name_prefix" {
  description = "What every proxy role's name begins with."
  type        = string
}

variable "targets" {
  description = "The target roles by key, each with its ARN, how many proxy roles lead to it, and what carries it: entry or token."
  type        = map(object({ role_arn = string, proxies = number, carrier = optional(string, "entry") }))
}
