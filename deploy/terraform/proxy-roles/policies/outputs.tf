output "starting_trust_policy" {
  description = "A valid document that lets nobody in: no token can have this subject. The service puts runs in its place."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = "arn:${var.partition}:iam::${var.account_id}:oidc-provider/${var.oidc_provider}" }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringLike = {
          "${var.oidc_provider}:aud" = var.oidc_audience
          "${var.oidc_provider}:sub" = ["irsa-svc:no-live-runs"]
        }
      }
    }]
  })
}

output "proxies" {
  description = "By the proxy role's name: the key and the ARN of its target, and the permission to assume just that."
  value = {
    for name, proxy in local.proxies : name => {
      key    = proxy.key
      target = proxy.target
      permissions = jsonencode({
        Version   = "2012-10-17"
        Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Resource = proxy.target }]
      })
    }
  }
}
