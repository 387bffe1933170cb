# Two accounts: the cluster's, with the service and the proxy roles, and one with the data, with the target roles. They may
# be one and the same. What is to be made stands in terraform.tfvars; this file goes for any organizations and roles.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.29"
    }
  }
}

# With these lines Terraform stops when the credentials at hand are another account's.
provider "aws" {
  region              = var.region
  allowed_account_ids = [var.cluster_account]
}

provider "aws" {
  alias               = "data"
  region              = var.region
  allowed_account_ids = [var.data_account]

  dynamic "assume_role" {
    for_each = var.data_account_role_arn == null ? [] : [var.data_account_role_arn]

    content {
      role_arn = assume_role.value
    }
  }
}

data "aws_partition" "current" {}

module "proxy_roles" {
  source = "../../proxy-roles"

  oidc_provider = var.oidc_provider
  name_prefix   = var.prefix
  organizations = var.organizations

  # By name, not by module.target_roles: those trust the proxy roles, which so must be there first.
  targets = {
    for name, role in var.roles : name => {
      role_arn = "arn:${data.aws_partition.current.partition}:iam::${var.data_account}:role/${name}"
      proxies  = role.proxies
    }
  }
}

module "target_roles" {
  source = "../../target-roles"

  providers = {
    aws = aws.data
  }

  trust_policy_max_chars = var.trust_policy_max_chars

  roles = {
    for name, role in var.roles : name => {
      proxy_role_arns = module.proxy_roles.role_arns[name]
      policy = jsonencode({
        Version   = "2012-10-17"
        Statement = [{ Effect = "Allow", Action = role.actions, Resource = role.resources }]
      })
    }
  }
}

module "service_role" {
  source = "../../service-role"

  region            = var.region
  oidc_provider     = var.oidc_provider
  proxy_role_prefix = var.prefix
}
