# Owns the proxy roles: roles in the cluster's account through which runs reach target roles.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

module "policies" {
  source = "./policies"

  partition     = data.aws_partition.current.partition
  account_id    = data.aws_caller_identity.current.account_id
  oidc_provider = var.oidc_provider
  oidc_audience = var.oidc_audience
  name_prefix   = var.name_prefix
  targets       = var.targets
  namespace     = var.compute_namespace
}

resource "aws_iam_role" "proxy" {
  for_each = module.policies.proxies

  name                 = each.key
  path                 = var.path
  description          = "Domino runs on their way to ${each.value.target}; irsa-svc keeps its trust policy"
  assume_role_policy   = each.value.trust_policy
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags

  lifecycle {
    # The service writes it from now on. Without this line each apply would throw all runs out.
    ignore_changes = [assume_role_policy]
  }
}

resource "aws_iam_role_policy" "proxy" {
  for_each = module.policies.proxies

  name   = "assume-target"
  role   = aws_iam_role.proxy[each.key].name
  policy = each.value.permissions
}

locals {
  # By the target's key, in the order in which the service fills a pool: the first, -2, -3, …
  arns = {
    for key, target in var.targets : key => [
      for number in range(1, target.proxies + 1) :
      aws_iam_role.proxy["${var.name_prefix}${key}${number == 1 ? "" : "-${number}"}"].arn
    ]
  }
}
