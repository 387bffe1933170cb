# Owns the documents of proxy roles, and the roles' names. No provider: `terraform apply` here works anywhere.

locals {
  # The first keeps its name when others join the pool, so that a pool grows without a role being made anew.
  proxies = merge([
    for key, target in var.targets : {
      for number in range(1, target.proxies + 1) :
      "${var.name_prefix}${key}${number == 1 ? "" : "-${number}"}" => { key = key, target = target.role_arn }
    }
  ]...)
}
