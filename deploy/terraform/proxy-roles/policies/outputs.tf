output "starting_trust_policy" {
  description = "A valid document that lets nobody in: no token can have this subject. The service puts runs in its place."
  value       = local.starting_trust_policy
}

output "proxies" {
  description = "By the proxy role's name: the key and the ARN of its target, and the permission to assume just that."
  value = {
    for name, proxy in local.proxies : name => {
      key          = proxy.key
      target       = proxy.target
      trust_policy = proxy.carrier == "token" ? local.token_trust_policies[name] : local.starting_trust_policy
      permissions = jsonencode({
        Version   = "2012-10-17"
        Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Resource = proxy.target }]
      })
    }
  }
}
