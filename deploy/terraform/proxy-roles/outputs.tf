output "role_arns" {
  description = "By the target's key: the ARNs of its proxy roles, in the order in which a pool is filled."
  value       = local.arns
}

output "mapping_requests" {
  description = "By organization: the JSON body for POST /update_multirole_mapping."
  value = {
    for organization, keys in var.organizations : organization => jsonencode({
      domino_org = organization
      role_data = flatten([
        for key in keys : [
          for arn in local.arns[key] : { iam_role_arn = var.targets[key].role_arn, proxy_iam_role_arn = arn }
        ]
      ])
    })
  }
}
