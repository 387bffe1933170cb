# Owns the trust policy of target roles. No provider: `terraform apply` here works anywhere.

variable "roles" {
  description = "The target roles by name, each with the ARNs of the proxy roles that may assume it."
  type        = map(object({ proxy_role_arns = list(string) }))
}

output "trust_policies" {
  description = "By role: a trust policy that lets in exactly its proxy roles."
  value = {
    for name, role in var.roles : name => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Principal = { AWS = role.proxy_role_arns }
        Action    = "sts:AssumeRole"
      }]
    })
  }
}
