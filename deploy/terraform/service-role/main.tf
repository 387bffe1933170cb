# Owns the role of the service: what its pods may do in AWS, and that only they can take it.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

module "policies" {
  source = "./policies"

  partition              = data.aws_partition.current.partition
  account_id             = data.aws_caller_identity.current.account_id
  region                 = var.region
  namespace              = var.namespace
  service_account        = var.service_account
  credentials            = var.credentials
  oidc_provider          = var.oidc_provider
  oidc_audience          = var.oidc_audience
  proxy_role_arns        = var.proxy_role_arns
  proxy_role_prefix      = var.proxy_role_prefix
  cluster_name           = var.cluster_name
  pod_identity_role_arns = var.pod_identity_role_arns
  role_tokens            = var.role_tokens
}

resource "aws_iam_role" "service" {
  name                 = var.name
  path                 = var.path
  description          = "irsa-svc in ${var.namespace}: keeps the trust policies of proxy roles"
  assume_role_policy   = module.policies.trust_policy
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "service" {
  name   = "irsa-svc"
  role   = aws_iam_role.service.name
  policy = module.policies.permissions
}

resource "aws_eks_pod_identity_association" "service" {
  count = var.credentials == "pod-identity" ? 1 : 0

  cluster_name    = var.cluster_name
  namespace       = var.namespace
  service_account = var.service_account
  role_arn        = aws_iam_role.service.arn
  tags            = var.tags
}
