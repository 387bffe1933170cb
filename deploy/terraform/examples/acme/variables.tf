variable "cluster_account" {
  description = "The account of the cluster."
  type        = string
}

variable "data_account" {
  description = "The account of the data; it may be the cluster's."
  type        = string
}

variable "data_account_role_arn" {
  description = "The role in the account of the data with which Terraform makes roles there; null where the credentials at hand may."
  type        = string
  default     = null
}

variable "region" {
  description = "The region of the cluster."
  type        = string
}

variable "oidc_provider" {
  description = "The cluster's OIDC issuer without a scheme: aws eks describe-cluster --query cluster.identity.oidc.issuer"
  type        = string
}

variable "prefix" {
  description = "What the name of every proxy role begins with, and of no other role: the service may write the trust policy of each role that begins so. One for each cluster."
  type        = string

  validation {
    condition     = alltrue([for name in keys(var.roles) : !startswith(name, var.prefix)])
    error_message = "A role in `roles` begins with the prefix: in the cluster's account the service could then write its trust policy."
  }
}

variable "roles" {
  description = "The target roles by name: what each allows on what, and how many proxy roles share its runs (1)."
  type        = map(object({ actions = list(string), resources = list(string), proxies = optional(number, 1) }))
}

variable "organizations" {
  description = "The organizations by the names that Domino has for them, to the letter, each with the target roles of its members."
  type        = map(list(string))
}

variable "trust_policy_max_chars" {
  description = "The quota \"Role trust policy length\" of the account of the data: a target role's trust policy names each of its proxy roles."
  type        = number
  default     = 2048
}
