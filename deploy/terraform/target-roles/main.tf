# Owns the target roles: what runs are to have in the end, in the cluster's account or in another.

module "policies" {
  source = "./policies"

  roles = { for name, role in var.roles : name => { proxy_role_arns = role.proxy_role_arns } }
}

resource "aws_iam_role" "target" {
  for_each = var.roles

  name                 = each.key
  path                 = var.path
  description          = "Domino runs, through their proxy roles"
  assume_role_policy   = module.policies.trust_policies[each.key]
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "target" {
  for_each = { for name, role in var.roles : name => role.policy if role.policy != null }

  name   = "domino-runs"
  role   = aws_iam_role.target[each.key].name
  policy = each.value
}

locals {
  attachments = merge([
    for name, role in var.roles : { for arn in role.policy_arns : "${name} ${arn}" => { name = name, arn = arn } }
  ]...)
}

resource "aws_iam_role_policy_attachment" "target" {
  for_each = local.attachments

  role       = aws_iam_role.target[each.value.name].name
  policy_arn = each.value.arn
}
