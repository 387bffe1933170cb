variable "cluster_account" {
  description = "The account of the cluster."
  type        = string
}

variable "data_account" {
  description = "The account of the data."
  type        = string
}

variable "data_account_role_arn" {
  description = "The role in the account of the data with which Terraform makes roles there."
  type        = string
}

variable "region" {
  description = "The region of the cluster."
  type        = string
}

variable "oidc_provider" {
  description = "The cluster's OIDC issuer without a scheme: aws eks describe-cluster --query cluster.identity.oidc.issuer"
  type        = string
}

variable "bucket" {
  description = "The bucket that runs are to list, read and change."
  type        = string
}
