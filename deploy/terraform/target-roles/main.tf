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

  lifecycle {
    precondition {
      condition     = length(module.policies.trust_policies[each.key]) <= var.trust_policy_max_chars
      error_message = "The trust policy of ${each.key} would name ${length(each.value.proxy_role_arns)} proxy roles in ${length(module.policies.trust_policies[each.key])} characters: more than trust_policy_max_chars. Have the quota \"Role trust policy length\" of this account raised, or make fewer proxy roles, or a second target role."
    }
  }
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
