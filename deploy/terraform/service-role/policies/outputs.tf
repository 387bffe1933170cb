output "trust_policy" {
  description = "Who may take the service's role: the pods of the service, and nobody else."
  value = jsonencode({
    Version = "2012-10-17"
    # Two forms that Terraform counts as different types, and a condition wants one type: so as text, and back.
    Statement = jsondecode(
      var.credentials == "irsa" ? jsonencode([local.trust_by_irsa]) : jsonencode([local.trust_by_pod_identity])
    )
  })
}

output "permissions" {
  description = "What the service may do."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      jsondecode(length(local.proxy_roles) == 0 ? local.statements.none : local.statements.proxies),
      jsondecode(var.role_tokens ? local.statements.role_tokens : local.statements.none),
      jsondecode(length(var.pod_identity_role_arns) == 0 ? local.statements.none : local.statements.pod_identity),
    )
  })
}
