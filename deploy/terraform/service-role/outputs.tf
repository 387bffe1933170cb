output "role_arn" {
  description = "The ARN of the service's role."
  value       = aws_iam_role.service.arn
}

output "trust_policy" {
  description = "Who may take the role, as JSON."
  value       = module.policies.trust_policy
}

output "permissions" {
  description = "What the role may do, as JSON."
  value       = module.policies.permissions
}

output "helm_values" {
  description = "What the chart deploy/helm/irsa needs to know of all this, as YAML."
  value = yamlencode({
    env = {
      oidc_provider          = var.oidc_provider
      oidc_provider_audience = var.oidc_audience
      aws_region             = var.region
      namespace              = { field = var.namespace }
    }
    # With Pod Identity EKS knows the role, and an annotation would only mislead.
    serviceAccount = { name = var.service_account, roleArn = var.credentials == "irsa" ? aws_iam_role.service.arn : "" }
    roleTokens     = { enabled = var.role_tokens }
    podIdentity = {
      enabled     = length(var.pod_identity_role_arns) > 0
      clusterName = length(var.pod_identity_role_arns) > 0 ? var.cluster_name : ""
    }
  })
}
