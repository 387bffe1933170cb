output "role_arns" {
  description = "By the target's key: the ARNs of its proxy roles, in the order in which a pool is filled."
  value       = local.arns
}

output "client_ids" {
  description = "The audiences of role tokens: the cluster's OIDC provider in IAM has to list them, in `client_id_list`, beside sts.amazonaws.com."
  value       = sort(flatten([for key, target in var.targets : target.carrier == "token" ? ["irsa/${var.name_prefix}${key}"] : []]))
}

output "mapping_requests" {
  description = "By organization: the JSON body for POST /update_multirole_mapping."
  value = {
    for organization, keys in var.organizations : organization => jsonencode({
      domino_org = organization
      role_data = flatten([
        for key in keys : [
          for arn in local.arns[key] : merge(
            { iam_role_arn = var.targets[key].role_arn, proxy_iam_role_arn = arn },
            var.targets[key].carrier == "token" ? { carrier = "token" } : {},
            try(var.default_profiles[organization], null) == key ? { default_profile = true } : {},
          )
        ]
      ])
    })
  }
}
