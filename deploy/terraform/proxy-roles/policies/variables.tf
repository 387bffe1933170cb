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

variable "name_prefix" {
  description = "What every proxy role's name begins with."
  type        = string
}

variable "targets" {
  description = "The target roles by key, each with its ARN and how many proxy roles lead to it."
  type        = map(object({ role_arn = string, proxies = number }))
}
