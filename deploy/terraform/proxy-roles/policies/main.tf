# Owns the documents of proxy roles, and the roles' names. No provider: `terraform apply` here works anywhere.

locals {
  # The first keeps its name when others join the pool, so that a pool grows without a role being made anew.
  proxies = merge([
    for key, target in var.targets : {
      for number in range(1, target.proxies + 1) :
      "${var.name_prefix}${key}${number == 1 ? "" : "-${number}"}" => { key = key, target = target.role_arn, carrier = target.carrier }
    }
  ]...)

  starting_trust_policy = jsonencode({
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

  # Constant: a run gets in by a token with the role's own audience, as src/trust-policy/role-tokens.ts has it.
  token_trust_policies = {
    for name, proxy in local.proxies : name => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Sid       = "IrsaRoleTokens"
        Effect    = "Allow"
        Principal = { Federated = "arn:${var.partition}:iam::${var.account_id}:oidc-provider/${var.oidc_provider}" }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = { "${var.oidc_provider}:aud" = "irsa/${name}" }
          StringLike   = { "${var.oidc_provider}:sub" = "system:serviceaccount:${var.namespace}:*" }
        }
      }]
    }) if proxy.carrier == "token"
  }
}
